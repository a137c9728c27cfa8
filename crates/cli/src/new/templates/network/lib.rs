//! A network endpoint of the device, at a TCP port that the exporter's machine can reach.

use jumpstarter::prelude::*;
use tokio::net::TcpStream;

/// A TCP port that the exporter's machine can reach.
#[config(crate = jumpstarter)]
#[derive(Debug)]
pub struct AcmeLampConfig {
    /// Host name or IP address.
    host: String,
    /// TCP port.
    port: u16,
}

/// The driver of [`AcmeLampConfig`].
#[derive(Debug)]
pub struct AcmeLamp {
    host: String,
    port: u16,
}

#[async_trait]
impl DriverConfig for AcmeLampConfig {
    const NAME: &'static str = "acme-lamp";
    type Driver = AcmeLamp;

    async fn open(self, _: OpenContext) -> Result<AcmeLamp> {
        Ok(AcmeLamp {
            host: self.host,
            port: self.port,
        })
    }
}
register_driver!(AcmeLampConfig);

impl Driver for AcmeLamp {
    interfaces!(Network);
}

#[async_trait]
impl Network for AcmeLamp {
    async fn connect(&self) -> Result<Channel> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| {
            Error::unavailable(format!("connecting to {}:{}", self.host, self.port))
                .with_source(error)
                .with_hint("check that the device is on and listens there")
        })?;
        stream.set_nodelay(true)?;
        Ok(Channel::from_io(stream))
    }

    async fn address(&self) -> Result<String> {
        Ok(format!("tcp://{}:{}", self.host, self.port))
    }
}
