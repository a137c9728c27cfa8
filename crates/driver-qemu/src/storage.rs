//! What the machine boots from: images that were flashed or configured, and the overlays that take the guest's writes.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::suggest;
use jumpstarter_driver_flasher::{WriteOptions, read_image, write_image};

use crate::arguments::Boot;
use crate::config::{Architecture, QemuConfig, RootWrites};
use crate::disk::{DiskFormat, QemuImage, References, Save, Shrink};
use crate::host::{Firmware, HostFacts};
use crate::vm::lock;

/// A place that an image can be flashed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Partition {
    Root,
    Bios,
    OvmfCode,
    OvmfVars,
}

impl Partition {
    const ALL: [Self; 4] = [Self::Root, Self::Bios, Self::OvmfCode, Self::OvmfVars];

    const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Bios => "bios",
            Self::OvmfCode => "OVMF_CODE.fd",
            Self::OvmfVars => "OVMF_VARS.fd",
        }
    }

    /// The partition of that name; root where none is given.
    pub(crate) fn find(name: Option<&str>) -> Result<Self> {
        let Some(name) = name else { return Ok(Self::Root) };
        Self::ALL.into_iter().find(|partition| partition.name() == name).ok_or_else(|| {
            Error::invalid_argument(format!("there is no partition `{name}`"))
                .with_hint(suggest::hint(name, Self::ALL.into_iter().map(Self::name)))
        })
    }

    fn configured(self, config: &QemuConfig) -> Option<&Path> {
        let partitions = &config.default_partitions;
        match self {
            Self::Root => partitions.root.as_deref(),
            Self::Bios => partitions.bios.as_deref(),
            Self::OvmfCode => partitions.ovmf_code.as_deref(),
            Self::OvmfVars => partitions.ovmf_vars.as_deref(),
        }
    }
}

/// What QEMU is given to boot from.
#[derive(Debug)]
pub(crate) struct Disks {
    pub(crate) root: Option<QemuImage>,
    pub(crate) boot: Boot,
}

#[derive(Debug)]
pub(crate) struct Storage {
    folder: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The root image, whose format was told once, when it arrived; and for a configured one what it was like then.
    root: Option<(QemuImage, Option<Fingerprint>)>,
    /// The overlay of it and what it was like when the overlay was made.
    overlay: Option<(QemuImage, Fingerprint)>,
    /// What the variables of the firmware were like when the overlay of them was made.
    variables: Option<Fingerprint>,
}

/// Whether a file is still the one that it was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fingerprint {
    file: (u64, u64),
    length: u64,
    modified: Option<SystemTime>,
}

fn fingerprint(path: &Path) -> Result<Fingerprint> {
    let metadata = std::fs::metadata(path).with_context(|| format!("looking at {}", path.display()))?;
    let file = (metadata.dev(), metadata.ino());
    Ok(Fingerprint { file, length: metadata.len(), modified: metadata.modified().ok() })
}

impl Storage {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), known: Mutex::default() }
    }

    /// Looks at the configured root image, if it is there already, so that its format is told before a guest runs.
    pub(crate) fn inspect_defaults(&self, config: &QemuConfig) -> Result<()> {
        match Partition::Root.configured(config) {
            Some(path) if path.exists() => self.root(config).map(drop),
            _ => Ok(()),
        }
    }

    fn flashed(&self, partition: Partition) -> PathBuf {
        self.folder.join(format!("flashed-{}", partition.name()))
    }

    /// The file that stands in a partition: the flashed one, else the configured one.
    fn file(&self, partition: Partition, config: &QemuConfig) -> Option<PathBuf> {
        let flashed = self.flashed(partition);
        if flashed.exists() { Some(flashed) } else { partition.configured(config).map(Path::to_owned) }
    }

    /// The root image. The format of a configured one is told anew when the file was changed; but not when it is the
    /// guest that changes it, who may have written another format's header.
    fn root(&self, config: &QemuConfig) -> Result<Option<QemuImage>> {
        let known = lock(&self.known).root.clone();
        if let Some((root, then)) = known {
            let stays = config.root_writes == RootWrites::Persist;
            if stays || then.is_none() || then == fingerprint(root.path()).ok() {
                return Ok(Some(root));
            }
        }
        let Some(path) = Partition::Root.configured(config) else { return Ok(None) };
        // First this: what is written between the two is seen the next time.
        let now = fingerprint(path).context("opening default_partitions.root")?;
        let image = QemuImage::open(path, References::Allow).context("opening default_partitions.root")?;
        lock(&self.known).root = Some((image.clone(), Some(now)));
        Ok(Some(image))
    }

    /// Makes ready what QEMU boots from: overlays are made, grown or renewed as the configuration says.
    pub(crate) async fn prepare(&self, config: &QemuConfig, facts: &HostFacts) -> Result<Disks> {
        let root = match self.root(config)? {
            Some(base) => Some(self.prepare_root(base, config).await?),
            None => None,
        };
        Ok(Disks { root, boot: self.prepare_boot(config, facts).await? })
    }

    /// The firmware: the flashed or configured one, else the host's where the machine has none of its own.
    async fn prepare_boot(&self, config: &QemuConfig, facts: &HostFacts) -> Result<Boot> {
        let configured_vars = self.existing(Partition::OvmfVars, config)?;
        let (code, vars) = if let Some(code) = self.existing(Partition::OvmfCode, config)? {
            (code, configured_vars)
        } else if let Some(bios) = self.existing(Partition::Bios, config)? {
            return Ok(Boot::Bios(bios));
        } else if facts.target == Architecture::X86_64 {
            return Ok(Boot::BuiltIn);
        } else {
            let firmware = facts.firmware.clone().ok_or_else(|| {
                Error::failed_precondition("there is no UEFI firmware for aarch64 on this host")
                    .with_hint(Firmware::install_hint(facts.target))
            })?;
            (firmware.code, configured_vars.or(firmware.vars))
        };
        let code = QemuImage::open(code, References::Allow)?;
        let vars = match vars {
            None => None,
            Some(template) => Some(self.prepare_variables(&template).await?),
        };
        Ok(Boot::Uefi { code, vars })
    }

    /// The overlay of the firmware's variables: the guest's firmware writes them, the template stays.
    async fn prepare_variables(&self, template: &Path) -> Result<QemuImage> {
        let now = fingerprint(template)?;
        let made_then = lock(&self.known).variables.clone();
        if made_then.as_ref() == Some(&now) && self.variables().exists() {
            return Ok(QemuImage::with_format(self.variables(), DiskFormat::Qcow2));
        }
        if made_then.is_some() {
            tracing::warn!("{} was changed: the guest's variables are dropped", template.display());
        }
        self.drop_variables()?;
        let template = QemuImage::open(template, References::Allow)?;
        let overlay = template.overlay(self.variables(), None).await?;
        lock(&self.known).variables = Some(now);
        Ok(overlay)
    }

    fn drop_variables(&self) -> Result<()> {
        lock(&self.known).variables = None;
        remove(&self.variables())
    }

    /// The file of a partition, which has to be there if one is named.
    fn existing(&self, partition: Partition, config: &QemuConfig) -> Result<Option<PathBuf>> {
        let file = self.file(partition, config);
        if let Some(path) = file.as_ref().filter(|path| !path.is_file()) {
            let message = format!("{} is not a file: {}", partition.name(), path.display());
            return Err(Error::not_found(message).with_hint("correct `default_partitions`, or flash it"));
        }
        Ok(file)
    }

    async fn prepare_root(&self, base: QemuImage, config: &QemuConfig) -> Result<QemuImage> {
        let size = base.virtual_size().await.context("opening the root disk")?;
        let wanted = config.disk_size.map(ByteSize::as_bytes);
        if let Some(wanted) = wanted.filter(|wanted| *wanted < size) {
            return Err(too_small(wanted, "root image's", size));
        }
        if config.root_writes == RootWrites::Persist {
            if let Some(wanted) = wanted.filter(|wanted| *wanted > size) {
                base.resize(wanted, Shrink::Refuse).await?;
            }
            return Ok(base);
        }
        let now = fingerprint(base.path())?;
        let kept = lock(&self.known).overlay.clone();
        if let Some((overlay, then)) = kept
            && config.root_writes == RootWrites::Overlay
            && overlay.path().exists()
        {
            if then == now {
                let shown = overlay.virtual_size().await?;
                match wanted {
                    Some(wanted) if wanted > shown => overlay.resize(wanted, Shrink::Refuse).await?,
                    Some(wanted) if wanted.div_ceil(512) < shown.div_ceil(512) => {
                        return Err(too_small(wanted, "size that the guest has seen,", shown));
                    }
                    _ => {}
                }
                return Ok(overlay);
            }
            let path = base.path().display();
            tracing::warn!("{path} was changed: what the guest had written over it is dropped");
        }
        self.drop_overlay()?;
        let overlay = base.overlay(self.folder.join("root-overlay.qcow2"), wanted).await?;
        lock(&self.known).overlay = Some((overlay.clone(), now));
        Ok(overlay)
    }

    fn drop_overlay(&self) -> Result<()> {
        lock(&self.known).overlay = None;
        remove(&self.folder.join("root-overlay.qcow2"))
    }

    /// Writes an image to a partition. On failure, or cancelled, the old one stays.
    pub(crate) async fn flash(&self, source: ImageSource, partition: Partition) -> Result<()> {
        let incoming = self.folder.join(format!("incoming-{}", partition.name()));
        let cleanup = RemoveOnDrop(&incoming);
        write_image(source, &incoming, WriteOptions::default()).await?;
        let destination = self.flashed(partition);
        // Looked at before it replaces the old one: an image that refers to files of the host is refused.
        let format = QemuImage::open(&incoming, References::Refuse)?.format();
        if partition == Partition::Root {
            std::fs::rename(&incoming, &destination)?;
            lock(&self.known).root = Some((QemuImage::with_format(&destination, format), None));
            self.drop_overlay()?;
        } else {
            std::fs::rename(&incoming, &destination)?;
        }
        if matches!(partition, Partition::OvmfVars | Partition::OvmfCode) {
            self.drop_variables()?;
        }
        drop(cleanup);
        Ok(())
    }

    /// What the guest's firmware wrote over its variables.
    fn variables(&self) -> PathBuf {
        self.folder.join("variables.qcow2")
    }

    /// The root disk as the guest will see it at the next power-on.
    fn root_as_seen(&self, config: &QemuConfig) -> Result<Option<QemuImage>> {
        let Some(base) = self.root(config)? else { return Ok(None) };
        let overlay = lock(&self.known).overlay.clone();
        Ok(Some(match overlay {
            // Over a base that was changed, an overlay shows a mixture of both: it is dropped then.
            Some((overlay, then))
                if config.root_writes == RootWrites::Overlay && then == fingerprint(base.path())? =>
            {
                overlay
            }
            _ => base,
        }))
    }

    /// Reads a partition as the guest sees it: the root disk as raw bytes with the guest's writes.
    pub(crate) async fn dump(
        &self,
        sink: ImageSink,
        partition: Partition,
        config: &QemuConfig,
    ) -> Result<()> {
        let disk = match partition {
            Partition::Root => self.root_as_seen(config)?,
            Partition::OvmfVars if self.variables().exists() => {
                Some(QemuImage::with_format(self.variables(), DiskFormat::Qcow2))
            }
            _ => {
                let file = self.existing(partition, config)?;
                file.map(|path| QemuImage::open(path, References::Allow)).transpose()?
            }
        };
        let disk = disk.ok_or_else(|| nothing_in(partition))?;
        if disk.format() == DiskFormat::Raw {
            return read_image(disk.path(), sink).await.map(drop);
        }
        let whole = self.folder.join("dump.raw");
        let cleanup = RemoveOnDrop(&whole);
        let save = Save { format: DiskFormat::Raw, compressed: false };
        disk.save(&whole, save, config.flash_timeout.as_duration()).await?;
        let outcome = read_image(&whole, sink).await.map(drop);
        drop(cleanup);
        outcome
    }
}

fn too_small(wanted: u64, what: &str, size: u64) -> Error {
    let (wanted, size) = (ByteSize::bytes(wanted), ByteSize::bytes(size));
    Error::invalid_argument(format!("disk_size {wanted} is less than the {what} {size}"))
        .with_hint("a disk only grows; flash a smaller image, or leave `disk_size` out")
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

/// Removes a temporary file whichever way its user ends.
struct RemoveOnDrop<'a>(&'a Path);

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        if let Err(error) = remove(self.0) {
            tracing::warn!(error = %error.report(), "a temporary image stays");
        }
    }
}

#[cfg(test)]
mod tests;
