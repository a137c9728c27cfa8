//! The choice of the accelerator, from facts and with the reason.
//!
//! An openable /dev/kvm is not enough: it exists on hosts that are virtual machines without nested
//! virtualisation, where guests then hang. So on x86_64 the processor must report virtualisation as
//! well. On aarch64 user space cannot check that: an openable /dev/kvm is trusted, and no virtual
//! CPU is tried; if guests hang, set `accel: tcg`.

use std::fmt;
use std::fs::{self, File};

use jumpstarter_driver_core::prelude::*;

use crate::config::{Accel, Architecture};

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcceleratorKind {
    /// Linux's KVM.
    Kvm,
    /// QEMU's own emulation.
    Tcg,
    /// macOS's Hypervisor.framework.
    Hvf,
}

impl AcceleratorKind {
    /// The name that QEMU uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
            Self::Hvf => "hvf",
        }
    }
}

/// The accelerator, and why it was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accelerator {
    /// The chosen accelerator.
    pub kind: AcceleratorKind,
    /// Why it was chosen, for people.
    pub reason: String,
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.kind.name(), self.reason)
    }
}

/// The host's facts about KVM.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KvmFacts {
    /// The error of opening /dev/kvm for reading and writing, if any.
    pub open_error: Option<String>,
    /// Whether the processor lists vmx or svm; `None` if /proc/cpuinfo has no flags.
    pub virtualisation: Option<bool>,
}

impl KvmFacts {
    /// Reads /dev/kvm and /proc/cpuinfo.
    pub fn look_up() -> Self {
        let open = File::options().read(true).write(true).open("/dev/kvm");
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").ok();
        Self {
            open_error: open.err().map(|error| error.to_string()),
            virtualisation: cpuinfo.as_deref().and_then(has_virtualisation),
        }
    }

    /// Why KVM cannot work for machines of this architecture, with a hint; `None` if it can.
    fn obstacle(
        &self,
        target: Architecture,
        host: Option<Architecture>,
    ) -> Option<(String, &'static str)> {
        if host != Some(target) {
            let host = std::env::consts::ARCH;
            let reason = format!(
                "KVM runs guests of the host's architecture only: {}, not {host}",
                target.name()
            );
            return Some((reason, "use `accel: auto` or `accel: tcg`"));
        }
        if let Some(error) = &self.open_error {
            let remedy = "load the kernel module kvm_intel or kvm_amd, join the group kvm, or use `accel: tcg`";
            return Some((format!("/dev/kvm cannot be opened: {error}"), remedy));
        }
        if target == Architecture::X86_64 && self.virtualisation == Some(false) {
            let reason = "the processor offers neither vmx nor svm, so guests would hang, although /dev/kvm opens";
            let remedy = "switch virtualisation on in the firmware, or nested virtualisation for this virtual \
                          machine, or use `accel: tcg`";
            return Some((reason.to_owned(), remedy));
        }
        None
    }
}

/// Whether the flags in /proc/cpuinfo name vmx or svm; `None` without flags (not x86).
fn has_virtualisation(cpuinfo: &str) -> Option<bool> {
    let flags = cpuinfo.lines().find_map(|line| line.strip_prefix("flags")?.split_once(':'))?.1;
    Some(flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"))
}

/// Chooses an accelerator. Fails if the configured one cannot work.
pub(super) fn choose(
    accel: Accel,
    target: Architecture,
    host: Option<Architecture>,
    kvm: &KvmFacts,
) -> Result<Accelerator> {
    let chosen = |kind, reason: String| Ok(Accelerator { kind, reason });
    let is_mac = cfg!(target_os = "macos");
    let refused =
        |reason: String, hint: &str| Err(Error::failed_precondition(reason).with_hint(hint));
    match accel {
        Accel::Tcg => chosen(AcceleratorKind::Tcg, "as configured".to_owned()),
        Accel::Kvm => match kvm.obstacle(target, host) {
            None => chosen(AcceleratorKind::Kvm, "as configured".to_owned()),
            Some((reason, remedy)) => {
                refused(format!("`accel: kvm` cannot work here: {reason}"), remedy)
            }
        },
        Accel::Hvf if is_mac && host == Some(target) => {
            chosen(AcceleratorKind::Hvf, "as configured".to_owned())
        }
        Accel::Hvf => refused(
            "`accel: hvf` cannot work here: it runs guests of the host's architecture, on macOS"
                .to_owned(),
            "use `accel: auto`",
        ),
        Accel::Auto if is_mac && host == Some(target) => {
            chosen(AcceleratorKind::Hvf, "macOS, and the host's architecture".to_owned())
        }
        Accel::Auto => match kvm.obstacle(target, host) {
            None => chosen(AcceleratorKind::Kvm, "KVM is usable".to_owned()),
            Some((reason, _)) => chosen(AcceleratorKind::Tcg, reason),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Architecture::{Aarch64, X86_64};

    fn kvm(open_error: Option<&str>, virtualisation: Option<bool>) -> KvmFacts {
        KvmFacts { open_error: open_error.map(str::to_owned), virtualisation }
    }

    /// Expects this kind for this reason with `auto`; with `kvm` an error exactly if it is not KVM.
    #[track_caller]
    fn check(target: Architecture, host: Option<Architecture>, kvm: &KvmFacts, expected: &str) {
        let auto = choose(Accel::Auto, target, host, kvm).unwrap();
        assert!(auto.to_string().contains(expected), "{auto}");
        let asked = choose(Accel::Kvm, target, host, kvm);
        assert_eq!(asked.is_ok(), auto.kind == AcceleratorKind::Kvm);
        if let Err(error) = asked {
            assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
            assert!(error.to_string().contains(expected) && error.hint().is_some(), "{error:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn kvm_only_where_it_can_work() {
        check(X86_64, Some(X86_64), &kvm(None, Some(true)), "KVM is usable");
        check(Aarch64, Some(Aarch64), &kvm(None, None), "KVM is usable");
        check(X86_64, Some(X86_64), &kvm(None, Some(false)), "neither vmx nor svm");
        check(
            X86_64,
            Some(X86_64),
            &kvm(Some("Permission denied"), Some(true)),
            "Permission denied",
        );
        check(Aarch64, Some(X86_64), &kvm(None, Some(true)), "host's architecture");
        check(X86_64, None, &kvm(None, None), "host's architecture");
        assert!(choose(Accel::Hvf, X86_64, Some(X86_64), &kvm(None, Some(true))).is_err());
        let tcg = choose(Accel::Tcg, X86_64, Some(X86_64), &kvm(None, Some(true))).unwrap();
        assert_eq!(tcg.kind, AcceleratorKind::Tcg);
    }

    #[test]
    fn the_flags_of_the_processor() {
        assert_eq!(
            has_virtualisation("processor\t: 0\nflags\t\t: fpu vme svm_lock\n"),
            Some(false)
        );
        assert_eq!(has_virtualisation("flags\t\t: fpu vmx sse\n"), Some(true));
        assert_eq!(has_virtualisation("flags : svm\n"), Some(true));
        assert_eq!(has_virtualisation("Features\t: fp asimd\n"), None);
    }
}
