//! A flasher that keeps the image in memory. It knows the compressed images of the suite by their
//! bytes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};

use jumpstarter_driver_core::image::{Meter, Observer};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_testkit::image;
use sha2::{Digest, Sha256};

super::fake!(FlasherConfig, "fake-flasher", FlasherFake);

pub(crate) struct FlasherFake {
    fault: String,
    image: Mutex<Vec<u8>>,
    flashing: AtomicUsize,
    mixed: AtomicBool,
    dumping: AtomicBool,
}

/// What a dropped flash leaves, if it is to.
struct Dropped<'a>(&'a FlasherFake, bool);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.flashing.fetch_sub(1, SeqCst);
        if self.1 && self.0.fault == "cut off when cancelled" {
            self.0.image.lock().unwrap_or_else(PoisonError::into_inner).truncate(100);
        }
    }
}

impl FlasherFake {
    pub(crate) fn open(fault: String) -> Self {
        let (image, flashing) = (Mutex::default(), AtomicUsize::new(0));
        Self { fault, image, flashing, mixed: false.into(), dumping: false.into() }
    }

    fn is(&self, fault: &str) -> bool {
        self.fault == fault
    }

    fn check(&self, target: Option<&String>) -> Result<()> {
        match target {
            Some(name) if name != "root" && !self.is("any target") => {
                Err(Error::invalid_argument(format!("there is no target `{name}`")))
            }
            _ => Ok(()),
        }
    }

    async fn load(&self, mut source: ImageSource) -> Result<Vec<u8>> {
        let wishes = source.take_wishes();
        let observers: Vec<Observer> =
            if self.is("silent") { Vec::new() } else { wishes.observers() };
        let mut meter = Meter::new(observers, source.length().await);
        let (mut stream, mut bytes) = (source.open().await?, Vec::new());
        loop {
            match stream.receive().await {
                Ok(Some(chunk)) => {
                    meter.add(chunk.len() as u64);
                    bytes.extend_from_slice(&chunk);
                }
                Ok(None) => break,
                Err(error)
                    if self.is("takes short ones") && error.kind() == ErrorKind::DataLoss =>
                {
                    break;
                }
                Err(error)
                    if self.is("takes broken ones") && error.kind() != ErrorKind::DataLoss =>
                {
                    break;
                }
                Err(error) => return Err(error),
            }
            tokio::task::yield_now().await;
        }
        meter.finish();
        if bytes.is_empty() && !self.is("takes nothing") {
            return Err(Error::data_loss("the source is empty"));
        }
        if wishes.needs_sha256() && !self.is("believes") {
            let digest: String =
                Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            wishes.settle_sha256(&digest)?;
        }
        self.decompress(bytes)
    }

    fn decompress(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        for tool in ["gzip", "xz", "bzip2", "zstd"] {
            let whole = image::new_compressed(tool).unwrap();
            if bytes == whole && !self.is(tool) {
                return Ok(image::new());
            }
            if bytes.starts_with(&whole[..4]) && bytes != whole && !self.is("takes cut ones") {
                return Err(Error::data_loss("the compressed image ends early"));
            }
        }
        Ok(bytes)
    }
}

impl Driver for FlasherFake {
    interfaces!(Flasher);
}

#[async_trait]
impl Flasher for FlasherFake {
    async fn flash(&self, source: ImageSource, target: Option<String>) -> Result<()> {
        self.check(target.as_ref())?;
        if self.flashing.fetch_add(1, SeqCst) > 0 {
            self.mixed.store(true, SeqCst);
        }
        let mut guard = Dropped(self, true);
        let loaded = self.load(source).await;
        guard.1 = false;
        let mut loaded = loaded?;
        // Whoever comes first waits for the other, and both have the other's half.
        if self.is("mixes") && self.mixed.load(SeqCst) {
            let half = loaded.len() / 2;
            loaded[half..].fill(0xaa);
        }
        *self.image.lock().unwrap() = loaded;
        Ok(())
    }

    async fn dump(&self, mut target: ImageSink, partition: Option<String>) -> Result<()> {
        self.check(partition.as_ref())?;
        if self.dumping.swap(true, SeqCst) && self.is("stuck after a dump") {
            return Err(Error::failed_precondition("somebody dumps"));
        }
        let mut image = self.image.lock().unwrap().clone();
        if self.is("flips a bit")
            && let Some(last) = image.last_mut()
        {
            *last ^= 1;
        }
        if self.is("half a file") && target.local_path().is_some() {
            image.truncate(image.len() / 2);
        }
        let written = async {
            for chunk in image.chunks(64 * 1024) {
                target.write(chunk.to_vec()).await?;
            }
            target.finish().await
        };
        let outcome = written.await;
        self.dumping.store(false, SeqCst);
        if self.is("never fails") { Ok(()) } else { outcome }
    }
}
