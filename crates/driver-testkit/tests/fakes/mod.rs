//! Drivers that behave, but for the one fault that their configuration names.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test program uses some of them, and a test may panic"
)]

pub(crate) mod camera;
pub(crate) mod flasher;
pub(crate) mod mux;
pub(crate) mod network;
pub(crate) mod odd;
pub(crate) mod own;
pub(crate) mod peered;
pub(crate) mod power;
pub(crate) mod serial;
pub(crate) mod shell;
pub(crate) mod storage;
pub(crate) mod twin;
pub(crate) mod virtual_power;

use bytes::Bytes;
use jumpstarter_driver_core::{ChannelReader, ChannelWriter};

/// Makes a driver's configuration with the field `fault`.
macro_rules! fake {
    ($config:ident, $name:literal, $driver:ident) => {
        /// Which fault it has; `none` for none.
        #[derive(Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $config {
            /// The fault.
            fault: String,
        }

        #[async_trait]
        impl DriverConfig for $config {
            const NAME: &'static str = $name;
            type Driver = $driver;
            async fn open(self, _: OpenContext) -> Result<$driver> {
                Ok($driver::open(self.fault))
            }
        }
        register_driver!($config);
    };
}
pub(crate) use fake;

/// How an echo treats what passes through it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Echo {
    /// Keeps the last byte until the end.
    pub(crate) holds_back: bool,
    /// Clears the eighth bit.
    pub(crate) seven_bits: bool,
    /// Reads on, however much waits to be sent back.
    pub(crate) without_bound: bool,
    /// Never ends its own direction.
    pub(crate) without_end: bool,
}

impl Echo {
    /// Sends back what comes until it ends.
    pub(crate) async fn run(self, mut reader: ChannelReader, mut writer: ChannelWriter) {
        let limit = if self.without_bound { usize::MAX >> 3 } else { 1 };
        let (queue, mut queued) = tokio::sync::mpsc::channel::<Bytes>(limit);
        let reading = async move {
            let mut held = Bytes::new();
            while let Ok(Some(mut bytes)) = reader.receive().await {
                if self.seven_bits {
                    bytes = bytes.iter().map(|byte| byte & 0x7f).collect();
                }
                if self.holds_back {
                    bytes = [held, bytes].concat().into();
                    held = bytes.split_off(bytes.len() - 1);
                }
                if queue.send(bytes).await.is_err() {
                    return;
                }
            }
            queue.send(held).await.ok();
            if self.without_end {
                std::future::pending().await
            }
        };
        let writing = async {
            while let Some(bytes) = queued.recv().await {
                if writer.send(bytes).await.is_err() {
                    return;
                }
            }
        };
        tokio::join!(reading, writing);
    }
}
