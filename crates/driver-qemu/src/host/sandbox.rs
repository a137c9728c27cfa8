//! QEMU's sandbox: a filter of system calls. A guest that breaks out of its machine can neither
//! start programs nor gain rights. The options are those of libvirt.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use jumpstarter_supervise::run_unchecked;

use super::Place;
use super::place::Key;

/// The value of QEMU's option `-sandbox`.
pub(crate) const SANDBOX: &str =
    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// The kernel lists its filters of system calls here.
const KERNEL: &str = "/proc/sys/kernel/seccomp/actions_avail";

/// Whether QEMU can be sandboxed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sandbox {
    /// The sandbox is used by default.
    Usable,
    /// The sandbox cannot be used, for this reason.
    Unusable(String),
}

/// The results so far.
static KNOWN: LazyLock<Mutex<HashMap<Key, Sandbox>>> = LazyLock::new(Mutex::default);

impl Sandbox {
    /// Whether it is usable.
    pub fn is_usable(&self) -> bool {
        matches!(self, Self::Usable)
    }

    /// Asks `binary`, once for each program and process.
    pub(super) async fn probe(binary: &Path, place: &Place) -> Self {
        if !cfg!(target_os = "linux") {
            return Self::Unusable("only Linux filters system calls".to_owned());
        }
        if !Path::new(KERNEL).exists() {
            return Self::Unusable("this kernel does not filter system calls".to_owned());
        }
        let key = place.key(binary);
        let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sandbox) = key.as_ref().and_then(|key| known().get(key).cloned()) {
            return sandbox;
        }
        let sandbox = Self::ask(binary, place).await;
        known().extend(key.map(|key| (key, sandbox.clone())));
        sandbox
    }

    /// QEMU parses its options in order: it knows the sandbox's when it prints its version.
    async fn ask(binary: &Path, place: &Place) -> Self {
        let command = place.command(binary).args(["-sandbox", SANDBOX, "--version"]);
        match run_unchecked(command, Duration::from_secs(10)).await {
            Ok(output) if output.status.success() => Self::Usable,
            Ok(output) => {
                let said = output.stderr.lines().next().unwrap_or("it says nothing").to_owned();
                Self::Unusable(format!(
                    "{} refuses it ({}): {said}",
                    binary.display(),
                    output.status
                ))
            }
            Err(error) => Self::Unusable(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    fn program(folder: &Path, script: &str) -> PathBuf {
        let path = folder.join("qemu");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn a_qemu_that_was_built_without_it_is_known() {
        let folder = tempfile::tempdir().unwrap();
        // As QEMU 7.2 says it.
        let refusal =
            "echo 'qemu: -sandbox support is not enabled in this QEMU binary' >&2; exit 1";
        let script = format!(
            "case \"$*\" in *-sandbox*) {refusal};; esac; echo QEMU emulator version 7.2.0"
        );
        let Sandbox::Unusable(why) =
            Sandbox::probe(&program(folder.path(), &script), &Place::Here).await
        else {
            panic!("it is not there");
        };
        assert!(why.contains("not enabled in this QEMU binary"), "{why}");
    }
}
