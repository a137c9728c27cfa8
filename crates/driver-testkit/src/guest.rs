//! The external parts of tests of virtual machines: QEMU, and guests with Linux.

use std::path::PathBuf;

use crate::skip;

/// The architecture of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Arch {
    /// `x86_64`, the usual PC.
    X86_64,
    /// `aarch64`, 64-bit Arm.
    Aarch64,
}

impl Arch {
    fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }
}

/// The image of the tiny Linux guest, as `cargo xtask test` builds it and names it in
/// `JUMPSTARTER_GUEST_X86_64` and `JUMPSTARTER_GUEST_AARCH64`. `None`, after a [`skip`], if it is
/// missing: the test returns. If it could not be built, `JUMPSTARTER_GUEST_X86_64_MISSING` (or
/// `…_AARCH64_MISSING`) has the reason.
pub fn tiny_linux(arch: Arch) -> Option<PathBuf> {
    let variable = format!("JUMPSTARTER_GUEST_{}", arch.name().to_uppercase());
    match std::env::var_os(&variable).map(PathBuf::from) {
        Some(path) if path.is_file() => Some(path),
        Some(path) => {
            skip(&format!("{variable} is {}, which is no file", path.display()));
            None
        }
        None => {
            let unset = || format!("{variable} is not set: run `cargo xtask test`");
            skip(&std::env::var(format!("{variable}_MISSING")).unwrap_or_else(|_| unset()));
            None
        }
    }
}

/// Whether QEMU for `arch` is installed; `false` follows a [`skip`]: the test returns.
pub fn qemu_available(arch: Arch) -> bool {
    is_installed(&format!("qemu-system-{}", arch.name()))
}

/// Whether `qemu-img` is installed; `false` follows a [`skip`]: the test returns.
pub fn qemu_img_available() -> bool {
    is_installed("qemu-img")
}

fn is_installed(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).any(|folder| folder.join(program).is_file());
    if !found {
        skip(&format!("{program} is not installed: run `cargo xtask setup`"));
    }
    found
}
