//! What the guest consists of: packages, modules, files, kernel arguments; and the hash of all
//! this.
use sha2::{Digest, Sha256};

use super::{Arch, System};

/// The files of `xtask/guest/` that go into the initramfs of the tiny guest: path, mode, content.
const FILES: &[(&str, u32, &str)] = &[
    ("init", 0o755, include_str!("../../guest/init")),
    ("etc/rc", 0o755, include_str!("../../guest/rc")),
    ("etc/cidata", 0o755, include_str!("../../guest/cidata")),
    ("etc/udhcpc", 0o755, include_str!("../../guest/udhcpc")),
    ("etc/inittab", 0o644, include_str!("../../guest/inittab")),
    // busybox's acpid names the handler of the power button by the event's device and type.
    ("etc/acpi/PWRF/00000080", 0o755, include_str!("../../guest/power-button")),
    ("etc/shadow", 0o600, include_str!("../../guest/shadow")),
    ("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\n"),
    ("etc/group", 0o644, "root:x:0:\ntty:x:5:\n"),
    ("etc/issue", 0o644, "Tiny Linux guest \\n \\l\n"),
    ("etc/securetty", 0o644, "ttyS0\nttyAMA0\nhvc0\ntty1\n"),
];

/// Those of the Debian guest.
const DEBIAN_FILES: &[(&str, u32, &str)] =
    &[("init", 0o755, include_str!("../../guest/debian-init"))];

/// Kernel modules that are loaded before the login prompt.
const MODULES_NOW: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "button",
    "evdev",
    "vfat",
    "nls_ascii",
    "nls_cp437",
    "isofs",
];

/// The modules that lead to the Debian guest's root.
const DEBIAN_MODULES: &[&str] =
    &["virtio_pci", "virtio_blk", "vfat", "nls_ascii", "nls_cp437", "loop"];

/// Kernel modules that are loaded beside it, because nobody waits for them.
const MODULES_LATER: &[&str] = &[
    "virtio_console",
    "virtio-rng",
    "virtio_balloon",
    "qemu_fw_cfg",
    "vmw_vsock_virtio_transport",
    "vsock_loopback",
];

/// The sources whose change makes another image, beside the files.
const SOURCES: &[&str] = &[
    include_str!("recipe.rs"),
    include_str!("disk.rs"),
    include_str!("gpt.rs"),
    include_str!("initramfs.rs"),
    include_str!("cpio.rs"),
    include_str!("modules.rs"),
];
/// The sources of the Debian guest, beside those.
const DEBIAN_SOURCES: &[&str] =
    &[include_str!("debian.rs"), include_str!("../../guest/debian-customize")];

impl System {
    /// The name in files and on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            System::Tiny => "tiny",
            System::Debian => "debian",
        }
    }

    /// What goes into the initramfs, beside busybox and modules.
    pub(crate) fn files(self) -> &'static [(&'static str, u32, &'static str)] {
        match self {
            System::Tiny => FILES,
            System::Debian => DEBIAN_FILES,
        }
    }

    /// The kernel modules that are loaded at once, and those that nobody waits for.
    pub(crate) fn modules(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            System::Tiny => (MODULES_NOW, MODULES_LATER),
            System::Debian => (DEBIAN_MODULES, &[]),
        }
    }

    /// The packages whose programs make the root file system, here on the host.
    pub(crate) fn tool_packages(self) -> &'static [(&'static str, bool)] {
        match self {
            System::Tiny => &[],
            System::Debian => &[("mmdebstrap", true)],
        }
    }
}

impl Arch {
    /// Debian's name of the architecture.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::Aarch64 => "arm64",
        }
    }

    /// The metapackage that depends on the newest kernel for virtual machines.
    pub(crate) fn kernel_metapackage(self) -> &'static str {
        match self {
            Arch::X86_64 => "linux-image-cloud-amd64",
            Arch::Aarch64 => "linux-image-cloud-arm64",
        }
    }

    /// The packages that the guest is made of, beside the kernel that the metapackage names.
    pub(crate) fn guest_packages(self) -> &'static [&'static str] {
        &["busybox-static", "systemd-boot-efi"]
    }

    /// The packages whose programs make the disk, here on the host: name and whether it is for all
    /// architectures.
    pub(crate) fn tool_packages(self) -> &'static [(&'static str, bool)] {
        match self {
            Arch::X86_64 => &[("mtools", false), ("syslinux", false), ("syslinux-common", true)],
            Arch::Aarch64 => &[("mtools", false)],
        }
    }

    /// The serial port of the login.
    pub(crate) fn console(self) -> &'static str {
        match self {
            Arch::X86_64 => "ttyS0",
            Arch::Aarch64 => "ttyAMA0",
        }
    }

    /// The file that UEFI starts on a removable disk, and systemd-boot's own name for it.
    pub(crate) fn efi_names(self) -> (&'static str, &'static str) {
        match self {
            Arch::X86_64 => ("BOOTX64.EFI", "systemd-bootx64.efi"),
            Arch::Aarch64 => ("BOOTAA64.EFI", "systemd-bootaa64.efi"),
        }
    }

    /// The kernel's arguments. A panic ends the machine's run at once; the tests of the crypto code
    /// are left out. On x86 so is the check of the timer: it counts turns of a loop, in which an
    /// emulator on a busy host gives no tick, and then the kernel panics.
    pub(crate) fn command_line(self) -> String {
        let timer = match self {
            Arch::X86_64 => " no_timer_check",
            Arch::Aarch64 => "",
        };
        format!("console={} panic=-1 cryptomgr.notests mitigations=off{timer}", self.console())
    }
}

/// The recipe's hash: changes with any of its files or sources.
pub(crate) fn hash(system: System) -> String {
    let mut hasher = Sha256::new();
    for (path, mode, content) in system.files() {
        hasher.update(format!("{path}\0{mode}\0{content}\0"));
    }
    let own = match system {
        System::Tiny => &[],
        System::Debian => DEBIAN_SOURCES,
    };
    for source in SOURCES.iter().chain(own) {
        hasher.update(source);
    }
    super::cache::hex(&hasher.finalize())
}
