//! A flasher that keeps the image in memory. It knows the compressed images of the suite by their
//! bytes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};

use jumpstarter_driver_core::image::{Meter, Observer};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_testkit::image;
use sha2::{Digest, Sha256};

/// What it writes and reads at once, in bytes.
const PIECE: usize = 1 << 20;

/// Which fault it has; `none` for none.
#[config]
pub(crate) struct FlasherConfig {
    /// The fault.
    fault: String,
    /// The folder in which each image is a separate file, if the fake has one.
    #[serde(default)]
    medium: Option<PathBuf>,
}

#[async_trait]
impl DriverConfig for FlasherConfig {
    const NAME: &'static str = "fake-flasher";
    type Driver = FlasherFake;
    async fn open(self, _: OpenContext) -> Result<FlasherFake> {
        Ok(FlasherFake { medium: self.medium, ..FlasherFake::open(self.fault) })
    }
}
register_driver!(FlasherConfig);

pub(crate) struct FlasherFake {
    fault: String,
    medium: Option<PathBuf>,
    image: Mutex<Vec<u8>>,
    late: Mutex<Option<Vec<u8>>>,
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

/// The image of a flash that has read its source: one that is cancelled then is written all the
/// same, after the next dump, if it is to be.
struct Late<'a>(&'a FlasherFake, Option<Vec<u8>>);

impl Drop for Late<'_> {
    fn drop(&mut self) {
        if self.0.is("ignores a late cancel") {
            *self.0.late.lock().unwrap() = self.1.take();
        }
    }
}

impl FlasherFake {
    pub(crate) fn open(fault: String) -> Self {
        let (image, late, flashing) = (Mutex::default(), Mutex::default(), AtomicUsize::new(0));
        Self {
            fault,
            medium: None,
            image,
            late,
            flashing,
            mixed: false.into(),
            dumping: false.into(),
        }
    }

    fn is(&self, fault: &str) -> bool {
        self.fault == fault
    }

    fn check(&self, target: Option<&String>) -> Result<()> {
        match target {
            Some(name) if name != "root" && !self.is("any target") => {
                let error = Error::invalid_argument(format!("there is no target `{name}`"));
                let names = if self.is("names no target") { "some" } else { "root and spare" };
                Err(error.with_hint(format!("there are {names}")))
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
        if let Err(refused) = self.check(target.as_ref()) {
            if self.is("reads first") {
                source.open().await?.receive().await?;
            }
            return Err(refused);
        }
        if self.flashing.fetch_add(1, SeqCst) > 0 {
            self.mixed.store(true, SeqCst);
        }
        let mut guard = Dropped(self, true);
        let loaded = self.load(source).await;
        guard.1 = false;
        if let (Err(_), true, Some(medium)) = (&loaded, self.is("litters"), &self.medium) {
            std::fs::write(medium.join("half.img"), "half").unwrap();
        }
        let mut loaded = loaded?;
        if let Some(medium) = &self.medium {
            std::fs::write(medium.join("disk.img"), &loaded).unwrap();
        }
        // The first flash waits for the second, and both get the other's half.
        if self.is("mixes") && self.mixed.load(SeqCst) {
            let half = loaded.len() / 2;
            loaded[half..].fill(0xaa);
        }
        if self.is("skips zeros") && !self.mixed.load(SeqCst) {
            let old = self.image.lock().unwrap().clone();
            for (new, old) in loaded.chunks_mut(PIECE).zip(old.chunks(PIECE)) {
                if new.iter().all(|byte| *byte == 0) && new.len() == old.len() {
                    new.copy_from_slice(old);
                }
            }
        }
        let mut late = Late(self, Some(loaded));
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        *self.image.lock().unwrap() = late.1.take().unwrap();
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
        if self.is("first piece") {
            image.truncate(PIECE);
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
        if let Some(late) = self.late.lock().unwrap().take() {
            *self.image.lock().unwrap() = late;
        }
        self.dumping.store(false, SeqCst);
        if self.is("never fails") { Ok(()) } else { outcome }
    }

    async fn targets(&self) -> Result<FlashTargets> {
        let names = ["root", "spare"].into_iter().take(1 + usize::from(self.is("lists a spare")));
        let accepts_others = self.is("takes others");
        Ok(FlashTargets { accepts_others, ..FlashTargets::from_names(names) })
    }
}
