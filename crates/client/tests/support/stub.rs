//! A driver that does what these tests want to see on the way.

use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use jumpstarter_driver_core::Framing;
use jumpstarter_driver_core::image::ImageStream;
use jumpstarter_driver_core::prelude::*;
use tokio::sync::watch;

/// Calls of `on` last until they are cancelled; readings come once; images are treated as their
/// target says.
#[derive(Clone, Default)]
pub struct Stub {
    /// How many calls and streams are under way.
    pub running: Arc<watch::Sender<i32>>,
    /// What was sent to `connect`.
    pub heard: Arc<watch::Sender<Vec<u8>>>,
    /// Whether `connect` sends nothing.
    pub quiet: bool,
    /// How many bytes `connect` got rid of.
    pub flooded: Arc<watch::Sender<u64>>,
    /// Images that were left in the middle.
    pub kept: Arc<Mutex<Vec<ImageStream>>>,
}

impl Stub {
    fn running(&self) -> Running {
        self.running.send_modify(|running| *running += 1);
        Running(self.running.clone())
    }
}

struct Running(Arc<watch::Sender<i32>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}

#[async_trait]
impl Driver for Stub {
    interfaces!(Power, Flasher, Network);
}

#[async_trait]
impl Power for Stub {
    async fn on(&self) -> Result<()> {
        let _running = self.running();
        std::future::pending().await
    }

    async fn off(&self) -> Result<()> {
        Ok(())
    }

    async fn read(&self) -> Result<ValueStream<PowerReading>> {
        let reading = Ok(PowerReading { voltage: 5.0, current: 1.0 });
        let running = self.running();
        let readings = futures_util::stream::iter([reading]).chain(futures_util::stream::pending());
        Ok(readings
            .map(move |reading| {
                let _running = &running;
                reading
            })
            .boxed())
    }
}

#[async_trait]
impl Flasher for Stub {
    async fn flash(&self, source: ImageSource, target: Option<String>) -> Result<()> {
        let _running = self.running();
        let mut image = source.open().await?;
        match target.as_deref() {
            Some("reads a little") => {
                image.receive().await?;
            }
            Some("keeps the stream") => {
                image.receive().await?;
                self.kept.lock().unwrap().push(image);
            }
            Some("hangs in the middle") => {
                image.receive().await?;
                std::future::pending::<()>().await;
            }
            Some("hangs at the end") => {
                while image.receive().await?.is_some() {}
                std::future::pending::<()>().await;
            }
            other => return Err(Error::invalid_argument(format!("there is no target {other:?}"))),
        }
        Ok(())
    }

    async fn dump(&self, mut target: ImageSink, partition: Option<String>) -> Result<()> {
        let _running = self.running();
        match partition.as_deref() {
            Some("breaks off") => target.write("half of the im").await?,
            Some("gives nothing") => {}
            Some("hangs in the middle") => {
                target.write("half of the im").await?;
                std::future::pending::<()>().await;
            }
            Some("hangs at the start") => std::future::pending::<()>().await,
            other => {
                return Err(Error::invalid_argument(format!("there is no partition {other:?}")));
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Network for Stub {
    /// Remembers what is sent, and sends zeros as fast as they are taken, unless it is quiet.
    async fn connect(&self) -> Result<Channel> {
        let (near, far) = Channel::pair(Framing::Bytes);
        let (mut reader, mut writer) = near.split();
        let heard = self.heard.clone();
        tokio::spawn(async move {
            while let Ok(Some(data)) = reader.receive().await {
                heard.send_modify(|heard| heard.extend_from_slice(&data));
            }
        });
        let (quiet, flooded) = (self.quiet, self.flooded.clone());
        tokio::spawn(async move {
            if quiet {
                return std::future::pending().await;
            }
            while writer.send(vec![0; 64 * 1024]).await.is_ok() {
                flooded.send_modify(|bytes| *bytes += 64 * 1024);
            }
        });
        Ok(far)
    }
}
