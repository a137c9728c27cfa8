//! A serial console that a terminal server offers at a TCP port.

use jumpstarter::Framing;
use jumpstarter::prelude::*;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// A serial console that a terminal server offers at a TCP port.
#[config(crate = jumpstarter)]
#[derive(Debug)]
pub struct AcmeLampConfig {
    /// Host name or IP address of the terminal server.
    host: String,
    /// TCP port of the console.
    port: u16,
}

/// The driver of [`AcmeLampConfig`].
#[derive(Debug)]
pub struct AcmeLamp {
    host: String,
    port: u16,
    /// Changes when every connection must end.
    closes: watch::Sender<()>,
}

#[async_trait]
impl DriverConfig for AcmeLampConfig {
    const NAME: &'static str = "acme-lamp";
    type Driver = AcmeLamp;

    async fn open(self, _: OpenContext) -> Result<AcmeLamp> {
        Ok(AcmeLamp {
            host: self.host,
            port: self.port,
            closes: watch::Sender::new(()),
        })
    }
}
register_driver!(AcmeLampConfig);

#[async_trait]
impl Driver for AcmeLamp {
    interfaces!(Serial);

    async fn close(&self) -> Result<()> {
        Serial::close(self).await
    }
}

#[async_trait]
impl Serial for AcmeLamp {
    async fn connect(&self) -> Result<Channel> {
        let port = TcpStream::connect((self.host.as_str(), self.port)).await;
        let mut port = port.map_err(|error| {
            Error::unavailable(format!("connecting to {}:{}", self.host, self.port))
                .with_source(error)
                .with_hint("check that the terminal server is on and listens there")
        })?;
        let (client, far) = Channel::pair(Framing::Bytes);
        let (mut far, mut closed) = (far.into_io()?, self.closes.subscribe());
        tokio::spawn(async move {
            tokio::select! {
                _ = copy_bidirectional(&mut far, &mut port) => {}
                // Also when the driver is dropped.
                _ = closed.changed() => {}
            }
        });
        Ok(client)
    }

    async fn close(&self) -> Result<()> {
        self.closes.send_replace(());
        Ok(())
    }
}
