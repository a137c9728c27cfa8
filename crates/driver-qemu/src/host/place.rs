//! Where QEMU runs: beside this program, or in the sidecar of its pod.
//!
//! The two containers of a pod have one network, one kernel and one volume in common: the folder of
//! the launcher's socket. So in a sidecar:
//!
//! - The program, /dev/kvm and the firmware are looked for there, by a script.
//! - Everything that QEMU opens lies on the volume and is named by its path: nothing is inherited.
//! - QEMU connects to sockets that this program listens on, so nothing is polled, and no output of
//!   the console is lost.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::{Command, Launcher, run};

use super::{ENVIRONMENT, KvmFacts};
use crate::config::{Partitions, QemuConfig};

/// How long a small tool may take there.
const QUICK: Duration = Duration::from_secs(30);

/// The size of the volume in the pods of an ExporterSet. A program cannot see it: the volume is a
/// folder of the node's disk, and a pod that exceeds it is evicted.
const VOLUME: ByteSize = ByteSize::mebibytes(100);

/// Prints where the program `$1` is, whether KVM opens, and which of the other arguments are files.
const LOOK: &str = r#"
echo "binary=$(command -v "$1")"; shift
if [ -c /dev/kvm ]; then if (: <>/dev/kvm); then echo kvm=; fi; fi
for file; do if [ -r "$file" ]; then echo "file=$file"; fi; done
"#;

/// Copies the file `$1` to `$2`; sparse if this `cp` can, since firmware is mostly empty.
const COPY: &str = r#"cp --sparse=always "$1" "$2" 2>/dev/null || cp "$1" "$2""#;

/// A program, and the time of its last change.
pub(super) type Key = (PathBuf, Option<SystemTime>);

/// Where QEMU runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Place {
    /// Beside this program.
    #[default]
    Here,
    /// In the sidecar behind this launcher.
    Sidecar(Launcher),
}

/// What a sidecar has.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) binary: Option<PathBuf>,
    pub(super) kvm: bool,
    pub(super) files: Vec<PathBuf>,
}

impl Place {
    /// The place that the configuration names.
    pub(crate) fn new(config: &QemuConfig) -> Result<Self> {
        let Some(socket) = &config.launcher_socket else { return Ok(Self::Here) };
        let socket = std::path::absolute(socket.as_path()).context("finding `launcher_socket`")?;
        Ok(Self::Sidecar(Launcher::new(socket)))
    }

    /// A command that runs there.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        match self {
            Self::Here => Command::new(program).env_only(ENVIRONMENT),
            // With the sidecar's own environment.
            Self::Sidecar(launcher) => Command::new(program).through(launcher.clone()),
        }
    }

    /// By what facts about a program are remembered; `None` if they are not: a sidecar may be
    /// replaced.
    pub(super) fn key(&self, binary: &Path) -> Option<Key> {
        let changed = || binary.metadata().and_then(|metadata| metadata.modified()).ok();
        (*self == Self::Here).then(|| (binary.to_owned(), changed()))
    }

    /// The launcher of the sidecar; `None` if QEMU runs beside this program.
    pub(crate) fn launcher(&self) -> Option<&Launcher> {
        match self {
            Self::Here => None,
            Self::Sidecar(launcher) => Some(launcher),
        }
    }

    /// The folder that both containers see; `None` if QEMU sees what this program sees.
    pub(crate) fn shared(&self) -> Option<&Path> {
        self.launcher()?.socket().parent()
    }

    /// How much the volume still takes, and its size; `None` without one.
    pub(crate) fn room(&self) -> Option<(ByteSize, ByteSize)> {
        let used = ByteSize::bytes(self.shared().map(used)?);
        let room = VOLUME.as_bytes().saturating_sub(used.as_bytes());
        Some((ByteSize::bytes(room), VOLUME))
    }

    /// Looks for a program and files in the sidecar.
    pub(super) async fn look(&self, binary: &str, files: &[PathBuf]) -> Result<Seen> {
        let command = self.command("sh").args(["-c", LOOK, "sh", binary]).args(files);
        let output = run(command, QUICK).await.map_err(|error| {
            let hint = error.hint().unwrap_or_else(|| "look at the sidecar's log".to_owned());
            let failed = Error::failed_precondition("looking for QEMU in the sidecar");
            failed.with_source(error).with_hint(hint)
        })?;
        let mut seen = Seen::default();
        for line in output.stdout_text().lines() {
            match line.split_once('=') {
                Some(("binary", path)) if path.starts_with('/') => seen.binary = Some(path.into()),
                Some(("kvm", _)) => seen.kvm = true,
                Some(("file", path)) => seen.files.push(path.into()),
                _ => {}
            }
        }
        Ok(seen)
    }

    /// Brings the firmware that only one of the containers has into `folder`, on the volume, so
    /// that both have it, and names it there. Refuses a root image that only one of them has.
    pub(crate) async fn share(&self, partitions: &mut Partitions, folder: &Path) -> Result<()> {
        if *self == Self::Here {
            return Ok(());
        }
        let Partitions { root, bios, ovmf_code, ovmf_vars } = partitions;
        let mut firmware =
            [("bios", bios), ("OVMF_CODE.fd", ovmf_code), ("OVMF_VARS.fd", ovmf_vars)];
        let named = firmware.iter().filter_map(|(_, path)| path.as_deref()).chain(root.as_deref());
        let named: Vec<PathBuf> = named.map(Path::to_owned).collect();
        let seen = self.look("sh", &named).await?.files;
        if let Some(root) = root.as_deref() {
            check_root(root, root.exists(), seen.iter().any(|file| file == root))?;
        }
        for (name, path) in &mut firmware {
            let Some(source) = path.as_deref().map(Path::to_owned) else { continue };
            let is_there = seen.contains(&source);
            if is_there && source.exists() {
                continue;
            }
            let copy = folder.join(format!("default-{name}"));
            let doing = || format!("copying {} to the shared volume", source.display());
            if is_there {
                let command = self.command("sh").args(["-c", COPY, "sh"]).arg(&source).arg(&copy);
                run(command, QUICK)
                    .await
                    .map_err(|error| Error::internal(doing()).with_source(error))?;
            } else if source.exists() {
                std::fs::copy(&source, &copy).with_context(doing)?;
            } else {
                let source = source.display();
                tracing::warn!(
                    "default_partitions.{name}: neither container has {source}: it is not used"
                );
                **path = None;
                continue;
            }
            **path = Some(copy.into());
        }
        if ovmf_code.is_none() {
            *ovmf_vars = None;
        }
        Ok(())
    }
}

/// Refuses a root image that one of the containers does not see.
fn check_root(path: &Path, is_here: bool, is_there: bool) -> Result<()> {
    let without = match (is_here, is_there) {
        // A missing one is reported when the machine starts, as everywhere.
        (true, true) | (false, false) => return Ok(()),
        (true, false) => "the sidecar, where QEMU runs, has no",
        (false, true) => "only the sidecar, and not the exporter, has",
    };
    let message = format!("default_partitions.root: {without} {}", path.display());
    Err(Error::failed_precondition(message)
        .with_hint("put it on a volume that both containers mount at the same path, or flash it"))
}

/// Bytes of the files in a folder, those below it included.
fn used(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => used(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        // Removed meanwhile.
        Err(_) => 0,
    });
    sizes.sum()
}

impl KvmFacts {
    /// As a sidecar sees them. Its kernel is this one.
    pub(super) fn of_sidecar(kvm_opens: bool) -> Self {
        let open_error = (!kvm_opens).then(|| "the sidecar has no usable one".to_owned());
        Self { open_error, ..Self::look_up() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_image_of_one_container_is_refused() {
        let path = Path::new("/images/os.img");
        assert!(check_root(path, true, true).is_ok() && check_root(path, false, false).is_ok());
        let error = check_root(path, true, false).unwrap_err();
        assert!(error.to_string().contains("sidecar, where QEMU runs, has no /images"), "{error}");
        let error = check_root(path, false, true).unwrap_err();
        assert!(error.hint().unwrap().contains("both containers"), "{error:?}");
    }
}
