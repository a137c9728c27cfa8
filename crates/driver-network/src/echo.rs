//! `echo`: an endpoint that sends back what it receives.

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{ChannelReader, ChannelWriter, Framing};

/// An endpoint that sends back what it receives: to try out a connection to an exporter.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EchoNetworkConfig {}

#[async_trait]
impl DriverConfig for EchoNetworkConfig {
    const NAME: &'static str = "echo";
    const PYTHON_NAMES: &'static [&'static str] =
        &["jumpstarter_driver_network.driver.EchoNetwork"];
    type Driver = EchoNetwork;

    async fn open(self, _: OpenContext) -> Result<EchoNetwork> {
        Ok(EchoNetwork::new())
    }
}
register_driver!(EchoNetworkConfig);

/// An endpoint that sends back what it receives, and ends when the sender does.
///
/// Bounded: a peer that sends and never receives waits after a few frames.
#[derive(Clone, Copy, Debug, Default)]
pub struct EchoNetwork {}

impl EchoNetwork {
    /// Makes the endpoint; nothing is opened before a client connects.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Driver for EchoNetwork {
    interfaces!(Network);
}

#[async_trait]
impl Network for EchoNetwork {
    async fn connect(&self) -> Result<Channel> {
        let (sending, receiving) = Channel::pair(Framing::Bytes);
        let ((_, writer), (reader, _)): ((_, ChannelWriter), (ChannelReader, _)) =
            (sending.split(), receiving.split());
        Ok(Channel::from_parts(Framing::Bytes, reader, writer))
    }
}
