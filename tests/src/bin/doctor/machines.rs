//! QEMU and what makes it quick, bootable and reachable.

use std::path::Path;
use std::time::Duration;

use jumpstarter_driver_qemu::{
    AcceleratorKind, Architecture, Firmware, HostFacts, KvmFacts, QemuConfig, Vsock,
};
use jumpstarter_supervise::{Command, run};

use crate::finding::{Finding, Verdict};

/// What installs everything that an architecture needs.
fn setup(target: Architecture) -> String {
    format!("cargo xtask setup --arch {}", target.name())
}

/// The emulator of an architecture, its accelerator and its firmware.
pub(crate) async fn examine(target: Architecture, needed: bool) -> Vec<Finding> {
    let name = format!("qemu-system-{}", target.name());
    let mut config = QemuConfig::default();
    config.arch = Some(target);
    let facts = match HostFacts::probe(&config).await {
        Ok(facts) => facts,
        Err(error) => {
            let remedy = match error.hint() {
                Some(hint) => format!("{}; or {hint}", setup(target)),
                None => setup(target),
            };
            return vec![Finding::bad(
                name,
                Verdict::missing(needed),
                format!("{error:#}"),
                remedy,
            )];
        }
    };
    let emulator = Finding::good(name, format!("{} at {}", facts.version, facts.binary.display()));
    vec![emulator, accelerator(&facts), firmware(target, needed)]
}

fn accelerator(facts: &HostFacts) -> Finding {
    let what = format!("accelerator {}", facts.target.name());
    match facts.accelerator.kind {
        // Nothing can be done about another architecture than the host's.
        AcceleratorKind::Tcg if facts.host != Some(facts.target) => {
            Finding::good(what, &facts.accelerator)
        }
        AcceleratorKind::Tcg => {
            let remedy = "emulation works, ten times slower; for KVM switch virtualisation on in the firmware, or nested \
                          virtualisation for this virtual machine";
            Finding::bad(what, Verdict::Note, &facts.accelerator, remedy)
        }
        _ => Finding::good(what, &facts.accelerator),
    }
}

fn firmware(target: Architecture, needed: bool) -> Finding {
    let what = format!("firmware {}", target.name());
    // PCs boot from BIOS by default, which comes with QEMU; the machines of aarch64 have UEFI only.
    let needed = needed && target == Architecture::Aarch64;
    match Firmware::find(target) {
        Some(firmware) => Finding::good(what, format!("UEFI, {}", firmware.code.display())),
        None => Finding::bad(
            what,
            Verdict::missing(needed),
            "no UEFI firmware is installed",
            setup(target),
        ),
    }
}

/// What is true about KVM, whatever was chosen.
pub(crate) fn examine_kvm() -> Finding {
    let facts = KvmFacts::look_up();
    let opens = match &facts.open_error {
        None => "/dev/kvm opens".to_owned(),
        Some(error) => format!("/dev/kvm does not open: {error}"),
    };
    let processor = match facts.virtualisation {
        Some(true) => "the processor has vmx or svm",
        Some(false) => "the processor has neither vmx nor svm",
        None => "the processor does not say whether it virtualises",
    };
    let detail = format!("{opens}; {processor}");
    match (&facts.open_error, facts.virtualisation) {
        (None, Some(true) | None) => Finding::good("kvm", detail),
        (None, Some(false)) => Finding::bad(
            "kvm",
            Verdict::Note,
            detail,
            "do not believe the device: guests hang under it; `accel: auto` does not use it",
        ),
        (Some(_), _) => Finding::bad(
            "kvm",
            Verdict::Note,
            detail,
            "load kvm_intel or kvm_amd, and join the group kvm; without it machines are emulated",
        ),
    }
}

/// Whether machines can have the child `ssh`.
pub(crate) fn examine_vsock() -> Finding {
    match Vsock::probe() {
        Vsock::Unusable(why) => Finding::bad(
            "vsock",
            Verdict::Note,
            why,
            "modprobe vhost_vsock; without it machines have no child `ssh`, and a hostfwd to port 22 does the same",
        ),
        _ => Finding::good("vsock", "/dev/vhost-vsock opens: machines have the child `ssh`"),
    }
}

/// `qemu-img`, which converts and grows images.
pub(crate) async fn examine_images() -> Finding {
    let output = run(Command::new("qemu-img").arg("--version"), Duration::from_secs(30)).await;
    match output {
        Ok(output) => {
            let text = output.stdout_text();
            let version =
                text.lines().next().unwrap_or_default().trim_start_matches("qemu-img version ");
            Finding::good("qemu-img", version)
        }
        Err(error) => {
            let remedy =
                Architecture::host().map_or_else(|| "install QEMU's tools".to_owned(), setup);
            let mut why = error.to_string();
            if Path::new("/usr/bin/qemu-img").exists() {
                why.push_str(" (it is in /usr/bin: is that in PATH?)");
            }
            Finding::bad("qemu-img", Verdict::Fault, why, remedy)
        }
    }
}
