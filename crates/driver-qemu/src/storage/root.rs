//! The root disk: the image, and the overlay for the guest's writes.

use jumpstarter_driver_core::prelude::*;

use super::{Partition, Storage, deleted, fingerprint, format, remove};
use crate::config::{QemuConfig, RootWrites};
use crate::disk::{QemuImage, Shrink};
use crate::lock::lock;

impl Storage {
    /// The root image: the flashed one, else the configured one. A configured one is inspected
    /// again after the file was changed, but not after the guest changed it, which may have written
    /// another format's header.
    pub(super) fn root(&self, config: &QemuConfig) -> Result<Option<QemuImage>> {
        if let Some(flashed) = self.flashed_image(Partition::Root)? {
            return Ok(Some(flashed));
        }
        let Some(path) = Partition::Root.configured(config) else { return Ok(None) };
        let path = &Partition::Root.find_file(path)?;
        let doing = "opening default_partitions.root";
        let known = lock(&self.0.known).configured.clone();
        if let Some((root, then)) = known {
            let now = fingerprint(path).ok();
            let persists = config.root_writes == RootWrites::Persist;
            if now.is_some_and(|now| now == then || persists && now.file == then.file) {
                return Ok(Some(root));
            }
        }
        // Taken first: a write between the two is noticed the next time.
        let now = fingerprint(path).context(doing)?;
        let image = format::find_configured(path, config).context(doing)?;
        let image = image.through(self.0.place.launcher());
        lock(&self.0.known).configured = Some((image.clone(), now));
        Ok(Some(image))
    }

    /// Prepares the disk that the guest writes to, and those below it.
    pub(super) async fn prepare_root(
        &self,
        base: QemuImage,
        config: &QemuConfig,
    ) -> Result<Vec<QemuImage>> {
        let size = base.virtual_size().await.context("opening the root disk")?;
        let wanted = config.disk_size.map(ByteSize::as_bytes);
        if let Some(wanted) = wanted.filter(|wanted| *wanted < size) {
            return Err(too_small(wanted, "root image's", size));
        }
        if config.root_writes == RootWrites::Persist {
            if let Some(wanted) = wanted.filter(|wanted| *wanted > size) {
                base.resize(wanted, Shrink::Refuse).await?;
            }
            return Ok(vec![base]);
        }
        let now = fingerprint(base.path())?;
        let kept = lock(&self.0.known).overlay.clone();
        if let Some((overlay, then)) = kept
            && config.root_writes == RootWrites::Overlay
        {
            if !overlay.path().exists() {
                let path = overlay.path().display();
                tracing::warn!(
                    "what the guest had written was deleted by somebody else ({path}): it begins anew"
                );
            } else if then == now {
                fit(&overlay, wanted).await?;
                return Ok(vec![overlay, base]);
            } else {
                let path = base.path().display();
                tracing::warn!("{path} was changed: what the guest had written over it is dropped");
            }
        }
        self.drop_overlay()?;
        let overlay = base.overlay(self.0.folder.join("root-overlay.qcow2"), wanted).await?;
        lock(&self.0.known).overlay = Some((overlay.clone(), now));
        Ok(vec![overlay, base])
    }

    pub(super) fn drop_overlay(&self) -> Result<()> {
        lock(&self.0.known).overlay = None;
        remove(&self.0.folder.join("root-overlay.qcow2"))
    }

    /// The root disk as the guest will see it at the next power-on.
    pub(super) fn root_as_seen(&self, config: &QemuConfig) -> Result<Option<QemuImage>> {
        let Some(base) = self.root(config)? else { return Ok(None) };
        let overlay = lock(&self.0.known).overlay.clone();
        Ok(Some(match overlay {
            // Over a changed base, an overlay shows a mixture of both, so it is dropped.
            Some((overlay, then))
                if config.root_writes == RootWrites::Overlay
                    && then == fingerprint(base.path())? =>
            {
                if !overlay.path().exists() {
                    let hint = "power it on to begin anew with its image, or flash it again";
                    return Err(
                        deleted("what the guest had written", overlay.path()).with_hint(hint)
                    );
                }
                overlay
            }
            _ => base,
        }))
    }
}

/// Resizes an overlay. It shrinks only if the guest wrote nothing there.
async fn fit(overlay: &QemuImage, wanted: Option<u64>) -> Result<()> {
    let shown = overlay.virtual_size().await?;
    match wanted {
        Some(wanted) if wanted > shown => overlay.resize(wanted, Shrink::Refuse).await,
        Some(wanted) if wanted.div_ceil(512) < shown.div_ceil(512) => {
            match overlay.resize(wanted, Shrink::IfUnwritten).await {
                Err(error) if error.kind() == ErrorKind::InvalidArgument => Err(too_small(
                    wanted,
                    "size up to which the guest has written,",
                    shown,
                )
                .with_hint(
                    "what the guest wrote would be lost: name a size that is not smaller, or flash the image \
                         again, which drops it",
                )),
                other => other,
            }
        }
        _ => Ok(()),
    }
}

fn too_small(wanted: u64, what: &str, size: u64) -> Error {
    let (wanted, size) = (ByteSize::bytes(wanted), ByteSize::bytes(size));
    Error::invalid_argument(format!("disk_size {wanted} is less than the {what} {size}"))
        .with_hint("flash a smaller image, or leave out `disk_size`: a disk only grows")
}
