//! Our client library, as a test of a user has it.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use jumpstarter_client::lab::Lease;
use jumpstarter_client::{ConnectOptions, connect};
use jumpstarter_driver_core::prelude::*;

/// Bytes in one frame.
const FRAME: usize = 64 * 1024;

/// A client that connects for each figure anew.
#[derive(Debug)]
pub(crate) struct Library(Way);

#[derive(Clone, Debug)]
enum Way {
    Address(String),
    Lease(Arc<Lease>),
}

/// Works on a separate thread, as `#[tokio::test]` would run it.
pub(crate) async fn on_one_thread<T, F>(work: impl FnOnce() -> F + Send + 'static) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>>,
{
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(work())
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(Error::internal("the client's thread panicked").with_source(error))
    })
}

impl Way {
    async fn connect(&self) -> Result<Device> {
        let exporter = match self {
            Self::Address(address) => {
                connect(&ConnectOptions::new(address.parse()?).insecure()).await?
            }
            Self::Lease(lease) => lease.connect().await?,
        };
        Ok(exporter.device().clone())
    }
}

impl Library {
    pub(crate) fn new(address: &str) -> Self {
        Self(Way::Address(address.to_owned()))
    }

    /// For the device of a lease.
    pub(crate) fn leased(lease: Arc<Lease>) -> Self {
        Self(Way::Lease(lease))
    }

    async fn on_one_thread<F>(&self, take: impl FnOnce(Device) -> F + Send + 'static) -> Result<f64>
    where
        F: Future<Output = Result<f64>>,
    {
        let way = self.0.clone();
        on_one_thread(async move || {
            let device = way.connect().await?;
            let figure = take(device.clone()).await;
            device.close().await?;
            figure
        })
        .await
    }

    /// Calls a second, one at a time.
    pub(crate) async fn calls(&self, count: u64) -> Result<f64> {
        self.on_one_thread(async move |device| {
            let power = device.get::<dyn Power>("power")?;
            let start = Instant::now();
            for _ in 0..count {
                power.on().await?;
            }
            Ok(count as f64 / start.elapsed().as_secs_f64())
        })
        .await
    }

    /// Bytes a second, there and back.
    pub(crate) async fn echo(&self, bytes: u64) -> Result<f64> {
        self.on_one_thread(async move |device| {
            let network = device.get::<dyn Network>("echo")?;
            let (mut reader, mut writer) = network.connect().await?.split();
            let start = Instant::now();
            let sending = async {
                let frame = bytes::Bytes::from(vec![0xa5; FRAME]);
                for _ in 0..bytes / FRAME as u64 {
                    writer.send(frame.clone()).await?;
                }
                writer.finish().await
            };
            let receiving = async {
                let mut received = 0;
                while let Some(frame) = reader.receive().await? {
                    received += frame.len();
                }
                Ok(received)
            };
            let ((), received) = tokio::try_join!(sending, receiving)?;
            Ok(received as f64 / start.elapsed().as_secs_f64())
        })
        .await
    }

    /// Bytes a second of a file.
    pub(crate) async fn flash(&self, file: &Path) -> Result<f64> {
        let (file, size) = (file.to_owned(), std::fs::metadata(file)?.len());
        self.on_one_thread(async move |device| {
            let flasher = device.get::<dyn Flasher>("flasher")?;
            let start = Instant::now();
            flasher.flash(ImageSource::path(file), None).await?;
            Ok(size as f64 / start.elapsed().as_secs_f64())
        })
        .await
    }
}
