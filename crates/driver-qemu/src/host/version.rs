//! The version of a QEMU program, probed once for each program and process.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::run;

use super::Place;
use super::place::Key;

/// A release of QEMU; later ones compare greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct QemuVersion {
    /// 7 of 7.2.22.
    pub major: u32,
    /// 2 of 7.2.22.
    pub minor: u32,
    /// 22 of 7.2.22.
    pub micro: u32,
}

impl QemuVersion {
    #[cfg(test)]
    pub(crate) const fn new(major: u32, minor: u32, micro: u32) -> Self {
        Self { major, minor, micro }
    }

    /// Reads the answer to `--version`: "QEMU emulator version 7.2.22 (Debian …)".
    fn parse(text: &str) -> Option<Self> {
        let number =
            text.strip_prefix("QEMU emulator version ")?.split([' ', '\n', '(', '-']).next()?;
        let mut parts = number.trim().split('.').map(|part| part.parse().ok());
        let major = parts.next()??;
        Some(Self {
            major,
            minor: parts.next().flatten().unwrap_or(0),
            micro: parts.next().flatten().unwrap_or(0),
        })
    }
}

impl fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// The versions known so far.
static KNOWN: LazyLock<Mutex<HashMap<Key, QemuVersion>>> = LazyLock::new(Mutex::default);

/// Probes the version of `binary`.
pub(super) async fn probe(binary: &Path, place: &Place) -> Result<QemuVersion> {
    let key = place.key(binary);
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(version) = key.as_ref().and_then(|key| known().get(key).copied()) {
        return Ok(version);
    }
    let doing = || format!("ask {} for its version", binary.display());
    let command = place.command(binary).arg("--version");
    let output = run(command, Duration::from_secs(30)).await.map_err(|error| {
        let hint = error
            .hint()
            .unwrap_or_else(|| "is it QEMU, and of this host's architecture?".to_owned());
        Error::failed_precondition(doing()).with_source(error).with_hint(hint)
    })?;
    let text = output.stdout_text();
    let version = QemuVersion::parse(&text).ok_or_else(|| {
        let answer = text.lines().next().unwrap_or_default();
        Error::failed_precondition(format!("{}: it answered `{answer}`", doing()))
            .with_hint("check that the program is QEMU")
    })?;
    known().extend(key.map(|key| (key, version)));
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<QemuVersion>) {
        assert_eq!(QemuVersion::parse(text), expected, "{text}");
    }

    #[test]
    fn versions() {
        check(
            "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg)\nCopyright",
            Some(QemuVersion::new(7, 2, 22)),
        );
        check("QEMU emulator version 10.0.0\n", Some(QemuVersion::new(10, 0, 0)));
        check("QEMU emulator version 9.1.0-rc2 (v9)", Some(QemuVersion::new(9, 1, 0)));
        check("cat (GNU coreutils) 9.1", None);
        check("", None);
    }

    #[tokio::test]
    async fn another_program_is_not_qemu() {
        let error = probe("/bin/true".as_ref(), &Place::Here).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        let error = probe("/bin/false".as_ref(), &Place::Here).await.unwrap_err();
        assert!(format!("{error:#}").contains("/bin/false"), "{error:?}");
    }
}
