//! The images that the machine boots from: flashed or configured ones, and the overlays for the
//! guest's writes.
//!
//! Facts about an image (its format, its overlay) are kept by the identity of its file. So they
//! change at the moment when a new image replaces the old one, and not in a later step that may
//! fail.

mod firmware;
mod format;
mod room;
mod root;

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::suggest;
use jumpstarter_driver_flasher::{NewFile, WriteOptions, read_image, write_image};
use tokio::time::timeout;

use crate::arguments::Boot;
use crate::config::{Architecture, QemuConfig};
use crate::disk::{Access, Disk, DiskFormat, Header, QemuImage, References, Save};
use crate::host::{HostFacts, Place};
use crate::lock::lock;
use crate::off_runtime::off_runtime;

pub(crate) use format::compressed_defaults;

/// How long file work of an earlier, cancelled call is waited for.
const EARLIER_WORK: Duration =
    if cfg!(test) { Duration::from_millis(300) } else { Duration::from_secs(10) };

/// Numbers the copies of disks: the last one may still be removed while the next one is made.
static COPIES: AtomicU64 = AtomicU64::new(0);

/// A target of a flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Partition {
    Root,
    Bios,
    OvmfCode,
    OvmfVars,
}

impl Partition {
    pub(crate) const ALL: [Self; 4] = [Self::Root, Self::Bios, Self::OvmfCode, Self::OvmfVars];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Bios => "bios",
            Self::OvmfCode => "OVMF_CODE.fd",
            Self::OvmfVars => "OVMF_VARS.fd",
        }
    }

    /// The partition of that name; root without a name.
    pub(crate) fn find(name: Option<&str>) -> Result<Self> {
        let Some(name) = name else { return Ok(Self::Root) };
        Self::ALL.into_iter().find(|partition| partition.name() == name).ok_or_else(|| {
            Error::invalid_argument(format!("there is no partition `{name}`"))
                .with_hint(suggest::hint(name, Self::ALL.into_iter().map(Self::name)))
        })
    }

    fn configured(self, config: &QemuConfig) -> Option<&HostPath> {
        let partitions = &config.default_partitions;
        match self {
            Self::Root => partitions.root.as_ref(),
            Self::Bios => partitions.bios.as_ref(),
            Self::OvmfCode => partitions.ovmf_code.as_ref(),
            Self::OvmfVars => partitions.ovmf_vars.as_ref(),
        }
    }

    /// The current place of its configured file.
    fn find_file(self, path: &HostPath) -> Result<PathBuf> {
        let found = path.find().map_err(|error| {
            let remedy = "correct `default_partitions`, or flash it";
            let hint = error
                .hint()
                .map_or_else(|| remedy.to_owned(), |places| format!("{places}; {remedy}"));
            error.with_hint(hint)
        });
        found.with_context(|| format!("opening default_partitions.{}", self.name()))
    }
}

/// The disks that QEMU boots from.
#[derive(Debug)]
pub(crate) struct Disks {
    pub(crate) root: Option<Disk>,
    pub(crate) boot: Boot,
    /// The open files that the disks name by their numbers.
    pub(crate) files: Vec<OwnedFd>,
}

impl Disks {
    /// Opens a disk's files; see [`Disk::open`].
    fn open(&mut self, images: &[QemuImage], access: Access) -> Result<Disk> {
        let (disk, files) = Disk::open(images, access)?;
        self.files.extend(files);
        Ok(disk)
    }

    /// The same, for a QEMU that inherits nothing.
    fn by_path(self) -> Self {
        let boot = match self.boot {
            Boot::Uefi { code, vars } => {
                Boot::Uefi { code: code.by_path(), vars: vars.map(Disk::by_path) }
            }
            other => other,
        };
        Self { root: self.root.map(Disk::by_path), boot, files: Vec::new() }
    }
}

/// A machine's images. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Storage(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    place: Place,
    /// Held for moments, never during a file operation.
    known: Mutex<Known>,
    /// Held by file work until it has really ended, possibly after its caller was cancelled.
    busy: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct Known {
    /// The formats of flashed images, detected before they were put in place. A guest that writes
    /// another format's header to its disk changes nothing here.
    flashed: HashMap<Identity, DiskFormat>,
    /// The partitions with a flashed image.
    taken: HashSet<Partition>,
    /// The configured root image, and its fingerprint when its format was detected.
    configured: Option<(QemuImage, Fingerprint)>,
    /// The root disk's overlay, and the image's fingerprint when the overlay was made.
    overlay: Option<(QemuImage, Fingerprint)>,
    /// The fingerprints of the firmware's variables and code when the overlay of the variables was
    /// made.
    variables: Option<(Fingerprint, Fingerprint)>,
}

/// The identity of a file: the numbers of its device and its inode.
type Identity = (u64, u64);

/// Identifies a version of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fingerprint {
    file: Identity,
    length: u64,
    modified: Option<SystemTime>,
}

fn identity(metadata: &std::fs::Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

fn fingerprint(path: &Path) -> Result<Fingerprint> {
    let metadata =
        std::fs::metadata(path).with_context(|| format!("looking at {}", path.display()))?;
    let (file, modified) = (identity(&metadata), metadata.modified().ok());
    Ok(Fingerprint { file, length: metadata.len(), modified })
}

/// The public operations. They leave the file work to a thread that may block.
impl Storage {
    pub(crate) fn new(folder: &Path, place: &Place) -> Self {
        let (known, busy) = (Mutex::default(), Arc::default());
        Self(Arc::new(Inner { folder: folder.to_owned(), place: place.clone(), known, busy }))
    }

    /// Inspects the configured images that exist already: detects the root image's format before a
    /// guest runs, and refuses unusable ones.
    pub(crate) async fn inspect_defaults(&self, config: &QemuConfig) -> Result<()> {
        let (this, config) = (self.clone(), config.clone());
        self.alone(async move {
            if let Some(problem) = compressed_defaults(&config).into_iter().next() {
                let message = format!("{}: {}", problem.field, problem.message);
                let error = Error::invalid_argument(message);
                return Err(problem.hint.iter().fold(error, |error, hint| error.with_hint(hint)));
            }
            match Partition::Root.configured(&config) {
                Some(path) if path.exists() => this.root(&config).map(drop),
                _ => Ok(()),
            }
        })
        .await
    }

    /// Prepares the disks that QEMU boots from: overlays are made, grown or renewed as configured.
    pub(crate) async fn prepare(&self, config: &QemuConfig, facts: &HostFacts) -> Result<Disks> {
        let (this, config, facts) = (self.clone(), config.clone(), facts.clone());
        self.alone(async move {
            let mut disks = Disks { root: None, boot: Boot::BuiltIn, files: Vec::new() };
            if let Some(base) = this.root(&config)? {
                let images = this.prepare_root(base, &config).await?;
                let written = images.first().map(|image| image.path());
                room::check_for_writes(written.and_then(Path::parent).unwrap_or(&this.0.folder))?;
                disks.root = Some(disks.open(&images, Access::Write)?);
            }
            disks.boot = this.prepare_boot(&config, &facts, &mut disks).await?;
            Ok(if this.0.place == Place::Here { disks } else { disks.by_path() })
        })
        .await
    }

    /// Writes an image to a partition. A failure keeps the old one; after a cancellation one of the
    /// two is there, complete.
    pub(crate) async fn flash(
        &self,
        source: ImageSource,
        partition: Partition,
        config: &QemuConfig,
        target: Architecture,
    ) -> Result<()> {
        let this = self.clone();
        let options =
            WriteOptions::default().inspect(move |new| this.inspect_new(new, partition, target));
        let volume = if config.flash_limit.is_some() { None } else { self.0.place.room() };
        let limit = config.flash_limit.or(volume.map(|(room, _)| room));
        let options =
            limit.iter().fold(options, |options, limit| options.limit_bytes(limit.as_bytes()));
        let written = write_image(source, &self.flashed(partition), options).await;
        written.map_err(|error| match volume {
            Some(volume) if error.kind() == ErrorKind::ResourceExhausted => {
                room::not_on_volume(&error, volume)
            }
            _ => error,
        })?;
        lock(&self.0.known).taken.insert(partition);
        // The new image is in its place. Remains of the old one belong to another file, and are not
        // used again: failing to remove them now is not a failure of the flash.
        let (this, config) = (self.clone(), config.clone());
        let tidied = self
            .alone(async move {
                match partition {
                    Partition::Root => this.drop_overlay()?,
                    Partition::OvmfVars | Partition::OvmfCode => this.drop_variables()?,
                    Partition::Bios => {}
                }
                this.warn_of_mismatch(&config, target).await
            })
            .await;
        if let Err(error) = tidied {
            tracing::warn!(error = %error.report(), "the flash succeeded, and what it replaced stays");
        }
        Ok(())
    }

    /// Reads a partition as the guest sees it: the root disk as raw bytes with the guest's writes.
    pub(crate) async fn dump(
        &self,
        sink: ImageSink,
        partition: Partition,
        config: &QemuConfig,
    ) -> Result<()> {
        let (this, config) = (self.clone(), config.clone());
        let (path, _cleanup) = self
            .alone(async move {
                let disk =
                    this.as_seen(partition, &config)?.ok_or_else(|| nothing_in(partition))?;
                if disk.format() == DiskFormat::Raw {
                    return Ok((disk.path().to_owned(), None));
                }
                let base = match partition {
                    Partition::Root => this.root(&config)?,
                    _ => None,
                };
                let below = base.iter().filter(|base| base.path() != disk.path());
                let files: Vec<_> = std::iter::once(&disk).chain(below).collect();
                room::check_for_copy(&this.0.folder, &files)?;
                let number = COPIES.fetch_add(1, Ordering::Relaxed);
                let whole = this.0.folder.join(format!("dump-{number}.raw"));
                let cleanup = RemoveOnDrop(whole.clone());
                let save = Save::new(DiskFormat::Raw);
                disk.save(&whole, save, config.flash_timeout.as_duration()).await?;
                Ok((whole, Some(cleanup)))
            })
            .await?;
        read_image(&path, sink).await.map(drop)
    }

    /// Does file work outside the runtime, once that of an earlier call has ended.
    async fn alone<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let busy = timeout(EARLIER_WORK, self.0.busy.clone().lock_owned()).await.map_err(|_| {
            let folder = self.0.folder.display();
            Error::unavailable(format!(
                "an earlier call still waits for the file system of {folder}"
            ))
            .with_hint("check that the file system responds: run `ls` in it")
        })?;
        off_runtime(async move {
            let _busy = busy;
            work.await
        })
        .await
    }
}

/// The blocking part.
impl Storage {
    fn flashed(&self, partition: Partition) -> PathBuf {
        self.0.folder.join(format!("flashed-{}", partition.name()))
    }

    /// An image whose tools are where QEMU runs.
    fn image(&self, path: impl Into<PathBuf>, format: DiskFormat) -> QemuImage {
        QemuImage::with_format(path, format).through(self.0.place.launcher())
    }

    /// The flashed image of a partition, with its format at that time.
    fn flashed_image(&self, partition: Partition) -> Result<Option<QemuImage>> {
        let path = self.flashed(partition);
        let metadata = match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // Never falls back to the configured one, which was not requested.
                return match lock(&self.0.known).taken.contains(&partition) {
                    true => Err(deleted(
                        &format!("the image that was flashed to `{}`", partition.name()),
                        &path,
                    )
                    .with_hint("flash it again")),
                    false => Ok(None),
                };
            }
            other => other.with_context(|| format!("looking at {}", path.display()))?,
        };
        let format = lock(&self.0.known).flashed.get(&identity(&metadata)).copied();
        match format {
            Some(format) => Ok(Some(self.image(path, format))),
            None => Err(Error::failed_precondition(format!(
                "{} is not what was flashed",
                path.display()
            ))
            .with_hint("flash it again, and leave the machine's private folder alone")),
        }
    }

    /// Inspects a new image before it replaces the old one: whether a machine may use it, and its
    /// format.
    fn inspect_new(
        &self,
        new: NewFile<'_>,
        partition: Partition,
        target: Architecture,
    ) -> Result<()> {
        let file = new.file;
        let header = Header::read_file(file)?;
        let format = match header.fixed_size {
            // Without its footer it is raw, and QEMU shows all of it.
            Some(size) => {
                file.set_len(size)?;
                DiskFormat::Raw
            }
            None => header.admit(References::Refuse)?,
        };
        let size = match format {
            DiskFormat::Raw => file.metadata()?.len(),
            _ => {
                let found = QemuImage::try_open(new, format, self.0.place.launcher())?;
                found.or(header.virtual_size).unwrap_or_default()
            }
        };
        firmware::check_size(partition, format, size, target)?;
        let identity = identity(&file.metadata()?);
        lock(&self.0.known).flashed.insert(identity, format);
        Ok(())
    }

    /// The disk of a partition with the guest's writes.
    fn as_seen(&self, partition: Partition, config: &QemuConfig) -> Result<Option<QemuImage>> {
        match partition {
            Partition::Root => self.root_as_seen(config),
            Partition::OvmfVars if self.variables().exists() => {
                Ok(Some(self.image(self.variables(), DiskFormat::Qcow2)))
            }
            _ => self.firmware_image(partition, config),
        }
    }
}

/// The error for a file that another program deleted, as cleaners of temporary folders do.
fn deleted(what: &str, path: &Path) -> Error {
    let path = path.display();
    Error::failed_precondition(format!(
        "{what} was deleted by somebody else: {path} is not there any more"
    ))
}

fn nothing_in(partition: Partition) -> Error {
    Error::failed_precondition(format!("there is no image in `{}`", partition.name()))
        .with_hint("flash one first")
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removes a temporary file when its user ends, on another thread: it may be large.
#[derive(Debug)]
struct RemoveOnDrop(PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.0);
        let removing = move || {
            if let Err(error) = remove(&path) {
                tracing::warn!(error = %error.report(), "a temporary image stays");
            }
        };
        // Without a thread it stays until the machine's folder is removed.
        std::thread::Builder::new().name("image-remove".into()).spawn(removing).ok();
    }
}

#[cfg(test)]
mod tests;
