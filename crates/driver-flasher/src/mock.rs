//! A flasher without a device, for trials: it remembers the flashed images.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jumpstarter_codec::Compression;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::suggest;
use jumpstarter_files::RuntimeDir;

use crate::options::WriteOptions;
use crate::read::read_image;
use crate::thread::on_thread;
use crate::write::write_image;

/// Configuration of `mock-flasher`: remembers flashed images, byte for byte, until it is closed;
/// accepts any target name.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MockFlasherConfig {}

#[async_trait]
impl DriverConfig for MockFlasherConfig {
    const NAME: &'static str = "mock-flasher";
    const PYTHON_NAMES: &'static [&'static str] =
        &["jumpstarter_driver_opendal.driver.MockFlasher"];
    type Driver = MockFlasher;

    async fn open(self, _: OpenContext) -> Result<MockFlasher> {
        MockFlasher::open().await
    }
}
register_driver!(MockFlasherConfig);

/// The driver of [`MockFlasherConfig`].
#[derive(Debug)]
pub struct MockFlasher {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    folder: Option<Arc<RuntimeDir>>,
    images: BTreeMap<String, PathBuf>,
    made: u64,
}

pub(crate) const DEFAULT_TARGET: &str = "default";

impl MockFlasher {
    pub(crate) async fn open() -> Result<Self> {
        // A kind that only these have, so that the next one removes what a killed process left.
        let make = || RuntimeDir::create_for_files("mock-flasher");
        let folder = on_thread("mock-open", make).await?.context("making a private folder")?;
        let folder = Some(Arc::new(folder));
        Ok(Self { state: Mutex::new(State { folder, images: BTreeMap::new(), made: 0 }) })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file that was flashed to a target, if one was.
    pub(crate) fn image(&self, target: &str) -> Option<PathBuf> {
        self.state().images.get(target).cloned()
    }

    /// Makes the folder again if somebody removed it; what was flashed is lost then.
    async fn ensure(&self) -> Result<()> {
        let Some(folder) = self.state().folder.clone() else { return Ok(()) };
        let was_missing =
            on_thread("mock-ensure", move || folder.ensure()).await?.context("flashing")?;
        if was_missing {
            self.state().images.clear();
        }
        Ok(())
    }

    /// The file for a target; files are numbered, since a target's name may contain anything.
    fn file_for(&self, target: &str) -> Result<PathBuf> {
        let mut state = self.state();
        let folder = state.folder.as_ref().map(|folder| folder.path().to_owned());
        let folder =
            folder.ok_or_else(|| Error::failed_precondition("the mock flasher is closed"))?;
        if let Some(file) = state.images.get(target) {
            return Ok(file.clone());
        }
        state.made += 1;
        Ok(folder.join(format!("{}.img", state.made)))
    }
}

fn remove(file: &Path) -> Result<()> {
    std::fs::remove_file(file).with_context(|| format!("removing {}", file.display()))
}

#[async_trait]
impl Driver for MockFlasher {
    interfaces!(Flasher);

    async fn reset(&self) -> Result<()> {
        let images = std::mem::take(&mut self.state().images);
        on_thread("mock-reset", move || images.values().try_for_each(|file| remove(file))).await?
    }

    async fn close(&self) -> Result<()> {
        let folder = {
            let mut state = self.state();
            state.images.clear();
            state.folder.take()
        };
        // One that a flash is looking after is removed when that ends.
        let close = move || folder.and_then(Arc::into_inner).map_or(Ok(()), RuntimeDir::close);
        on_thread("mock-close", close).await?.context("removing the flashed images")
    }
}

#[async_trait]
impl Flasher for MockFlasher {
    async fn flash(&self, source: ImageSource, target: Option<String>) -> Result<()> {
        self.ensure().await?;
        let target = target.unwrap_or_else(|| DEFAULT_TARGET.to_owned());
        let file = self.file_for(&target)?;
        // As in Python: a compressed file stays one.
        write_image(source, &file, WriteOptions::default().compression(Compression::Raw)).await?;
        let replaced = self.state().images.insert(target, file.clone());
        if let Some(other) = replaced.filter(|other| *other != file) {
            // Of a first flash to the same target that ended meanwhile.
            on_thread("mock-remove", move || remove(&other)).await??;
        }
        Ok(())
    }

    async fn dump(&self, target: ImageSink, partition: Option<String>) -> Result<()> {
        let name = partition.as_deref().unwrap_or(DEFAULT_TARGET);
        let file = {
            let state = self.state();
            state.images.get(name).cloned().ok_or_else(|| {
                let names = state.images.keys().map(String::as_str);
                Error::not_found(format!("nothing was flashed to `{name}`")).with_hint(match state
                    .images
                    .len()
                {
                    0 => "flash an image first".to_owned(),
                    _ => suggest::hint(name, names),
                })
            })?
        };
        read_image(&file, target).await.map(drop)
    }

    async fn targets(&self) -> Result<FlashTargets> {
        Ok(FlashTargets { known: Vec::new(), accepts_others: true })
    }
}
