//! Configuration of `qemu`: every key, its default, and its checks beyond the types.

mod count;
mod forwards;
mod memory;
mod paths;
mod synonyms;

use jumpstarter_driver_core::ConfigProblem;
use jumpstarter_driver_core::prelude::*;

use crate::disk::DiskFormat;

pub use forwards::{HostForward, HostForwards, Protocol};
pub use memory::MemorySize;

/// A virtual machine run by QEMU.
///
/// The driver makes all of its children: `power`, `flasher`, `console`, `vnc`, `ssh` (only if vsock
/// works), and one network for each entry of `hostfwd`, named by its key. An entry `ssh` of
/// `hostfwd` replaces the child over vsock.
///
/// In a program, begin with the default and set fields:
///
/// ```
/// use jumpstarter_driver_qemu::{HostForward, QemuConfig};
///
/// let mut config = QemuConfig::default();
/// config.default_partitions.root = Some("os.qcow2".into());
/// config.hostfwd.push("web", HostForward::tcp(80));
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct QemuConfig {
    /// Architecture of the machine; by default that of the host.
    pub arch: Option<Architecture>,
    /// CPU model, as QEMU names it. By default the host's own under KVM or HVF; else `max` on
    /// x86_64 and `cortex-a57` on aarch64.
    pub cpu: Option<String>,
    /// Number of CPUs.
    #[serde(deserialize_with = "count::deserialize")]
    #[schemars(schema_with = "count::schema")]
    pub smp: u32,
    /// Size of the memory. A bare number below 1 MiB is a number of MiB, as QEMU and the Python
    /// driver take it.
    #[serde(deserialize_with = "memory::deserialize")]
    pub mem: ByteSize,
    /// Minimum size of the root disk: a smaller image gets free space at its end.
    pub disk_size: Option<ByteSize>,
    /// Host name that cloud-init gives the guest.
    pub hostname: String,
    /// User that cloud-init creates in the guest, with sudo and without a question.
    pub username: String,
    /// Password of that user.
    pub password: Secret,
    /// Images that are used until others are flashed.
    pub default_partitions: Partitions,
    /// Ports of the guest that the host can reach: each key names a child, a network.
    pub hostfwd: HostForwards,
    /// Whether the guest is cut off from every network: it then reaches neither this host nor
    /// anything beyond. Its ports in `hostfwd` stay reachable. By default it reaches everything
    /// that this host reaches, this host's loopback included (at 10.0.2.2).
    pub restrict: bool,
    /// Version of the flashing tool of the Python driver. Accepted for its configurations, without
    /// effect.
    pub fls_version: Option<String>,
    /// Accepted for configurations of the Python driver, without effect.
    pub fls_allow_custom_binaries: bool,
    /// Accepted for configurations of the Python driver, without effect.
    pub fls_custom_binary_url: Option<String>,
    /// How long flashing one image may take.
    pub flash_timeout: Span,
    /// The largest image that is flashed, decompressed, such as `20G`. By default an image may fill
    /// the file system of the temporary folder, except a reserve of 5 %, at most 1 GiB.
    pub flash_limit: Option<ByteSize>,
    /// What executes the guest's instructions.
    pub accel: Accel,
    /// What happens to the guest's writes to its root disk.
    pub root_writes: RootWrites,
    /// Format of `default_partitions.root`. By default the format is detected from the file's first
    /// bytes, once, before a guest writes to it; a block device is raw.
    pub root_format: Option<DiskFormat>,
    /// What `off` of the child `power` does, and so does closing the device of a running machine,
    /// as at the exporter's end.
    pub off: OffMode,
    /// Further arguments for QEMU, one element each, after all others. QEMU runs in its sandbox
    /// (`-sandbox`), which forbids it to start programs; a `-sandbox` among these arguments
    /// replaces it.
    pub extra_args: Vec<String>,
    /// The QEMU program: a path, or a name that is looked up in PATH; by default
    /// `qemu-system-<arch>`.
    pub binary: Option<HostPath>,
    /// Socket of a launcher (`jumpstarter-exec serve`) in the sidecar of the exporter's pod, which
    /// then runs QEMU. The socket's folder is a volume of both containers: the machine's files are
    /// there. Firmware is taken from the sidecar; a root image has to be at the same path in both.
    pub launcher_socket: Option<HostPath>,
    /// How long the steps of the machine's life may take.
    pub timeouts: Timeouts,
}

/// Architecture of a processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Architecture {
    /// Intel and AMD, 64 bits.
    #[serde(rename = "x86_64")]
    X86_64,
    /// ARM, 64 bits.
    Aarch64,
}

impl Architecture {
    /// The name, as QEMU spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// The architecture that this program was built for, if it is one of these.
    pub fn host() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            _ => None,
        }
    }
}

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Accel {
    /// The fastest that works on this host.
    #[default]
    Auto,
    /// Linux's KVM: near native speed; needs a guest of the host's architecture.
    Kvm,
    /// QEMU's own emulation: slow, works everywhere.
    Tcg,
    /// macOS's Hypervisor.framework.
    Hvf,
}

/// What happens to the guest's writes to its root disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RootWrites {
    /// They go to an overlay that lasts until the next flash; the flashed image stays unchanged.
    #[default]
    Overlay,
    /// They go to an overlay that is discarded at every power-off.
    Discard,
    /// They go to the flashed image itself.
    Persist,
}

/// How `off` of the child `power`, and closing the device, power a machine off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OffMode {
    /// Cuts the power, as with a relay: the guest is not asked.
    #[default]
    Cut,
    /// Does what `stop` does: presses the power button, and cuts the power only if the guest does
    /// not react in time.
    Graceful,
}

/// Images that are used until others are flashed, by the names that `flash` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Partitions {
    /// Root disk, in any format that QEMU knows.
    pub root: Option<HostPath>,
    /// BIOS image that replaces QEMU's SeaBIOS; unused with an `OVMF_CODE.fd`.
    pub bios: Option<HostPath>,
    /// UEFI firmware. By default x86_64 boots by BIOS, and aarch64 by the installed AAVMF.
    #[serde(rename = "OVMF_CODE.fd")]
    pub ovmf_code: Option<HostPath>,
    /// The UEFI firmware's variables. They are never written: the guest's changes go to an
    /// overlay.
    #[serde(rename = "OVMF_VARS.fd")]
    pub ovmf_vars: Option<HostPath>,
}

/// How long the steps of the machine's life may take.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Timeouts {
    /// From power-on until QEMU runs the guest.
    pub start: Span,
    /// From pressing the power button until the guest has shut down; then the power is cut. At its
    /// own end the exporter waits at most 90 s for the whole device.
    pub shutdown: Span,
    /// From asking QEMU to quit until its process has ended; then it is killed.
    pub quit: Span,
    /// From a command over QMP until its answer.
    pub command: Span,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            start: Span::seconds(30),
            shutdown: Span::seconds(60),
            quit: Span::seconds(5),
            command: Span::seconds(10),
        }
    }
}

impl Default for QemuConfig {
    fn default() -> Self {
        Self {
            arch: None,
            cpu: None,
            smp: 2,
            mem: ByteSize::mebibytes(512),
            disk_size: None,
            hostname: "demo".to_owned(),
            username: "jumpstarter".to_owned(),
            password: Secret::new("password"),
            default_partitions: Partitions::default(),
            hostfwd: HostForwards::default(),
            restrict: false,
            fls_version: None,
            fls_allow_custom_binaries: false,
            fls_custom_binary_url: None,
            flash_timeout: Span::seconds(1800),
            flash_limit: None,
            accel: Accel::default(),
            root_writes: RootWrites::default(),
            root_format: None,
            off: OffMode::default(),
            extra_args: Vec::new(),
            binary: None,
            launcher_socket: None,
            timeouts: Timeouts::default(),
        }
    }
}

impl QemuConfig {
    /// The driver's name.
    pub(crate) const NAME: &'static str = "qemu";
    /// The names that also denote it.
    pub(crate) const PYTHON_NAMES: &'static [&'static str] =
        &["jumpstarter_driver_qemu.driver.Qemu"];

    /// Names of the children that every machine has: a forward must not have one of them.
    pub(crate) const OWN_CHILDREN: [&'static str; 4] = ["power", "flasher", "console", "vnc"];

    /// The child that a machine has over vsock, unless a forward has that name.
    pub(crate) const SSH: &'static str = "ssh";

    /// Other names of its fields.
    pub(crate) const SYNONYMS: &'static [(&'static str, &'static str)] = synonyms::SYNONYMS;

    /// The machine's architecture.
    ///
    /// # Errors
    /// `FailedPrecondition` if none is configured, and the host's is not one of the two.
    pub(crate) fn architecture(&self) -> Result<Architecture> {
        self.arch.or_else(Architecture::host).ok_or_else(|| {
            let host = std::env::consts::ARCH;
            Error::failed_precondition(format!("no default architecture: this host is {host}"))
                .with_hint("set `arch` to x86_64 or aarch64")
        })
    }

    /// Returns what does not work on this host now: missing files. Reads
    /// files.
    pub(crate) fn warnings(&self) -> Vec<ConfigProblem> {
        let Partitions { root, bios, ovmf_code, ovmf_vars } = &self.default_partitions;
        let partitions = [
            ("root", root),
            ("bios", bios),
            ("OVMF_CODE.fd", ovmf_code),
            ("OVMF_VARS.fd", ovmf_vars),
        ];
        let mut found = Vec::new();
        // A sidecar has files that are not here.
        let here = if self.launcher_socket.is_some() { &[][..] } else { &partitions[..] };
        for (name, path) in here {
            if let Some(Err(error)) = path.as_ref().map(HostPath::find) {
                let field = format!("default_partitions.{name}");
                found.push(ConfigProblem::from_error(field, &error));
            }
        }
        // A bare name is looked up in PATH.
        let is_path =
            |binary: &&HostPath| binary.written().contains('/') && self.launcher_socket.is_none();
        if let Some(Err(error)) = self.binary.as_ref().filter(is_path).map(HostPath::find) {
            found.push(ConfigProblem::from_error("binary", &error));
        }
        found
    }

    /// Returns problems beyond the types. Uses no files.
    pub(crate) fn problems(&self) -> Vec<ConfigProblem> {
        let mut found = Vec::new();
        let mut problem =
            |field: &str, message: String| found.push(ConfigProblem::new(field, message));
        if !(1..=255).contains(&self.smp) {
            problem("smp", format!("{} CPUs: a machine has 1 to 255", self.smp));
        }
        if self.mem < ByteSize::mebibytes(1) {
            let message = format!("{} is less than 1 MiB", self.mem);
            problem("mem", message);
        }
        if self.disk_size.is_some_and(|size| size.as_bytes() == 0) {
            problem(
                "disk_size",
                "a disk of no size; leave the key out to keep the image's own".to_owned(),
            );
        }
        if self.disk_size.is_some_and(|size| size > LARGEST_DISK) {
            problem(
                "disk_size",
                format!("more than {LARGEST_DISK}, the largest disk: no file could hold it whole"),
            );
        }
        if !is_host_name(&self.hostname) {
            let message =
                "a host name is letters, digits, `-`, `_` and `.`, at most 253 of them".to_owned();
            problem("hostname", message);
        }
        if !is_user_name(&self.username) {
            let message =
                "a user name is letters, digits, `-`, `_` and `.`, at most 32, no `-` first"
                    .to_owned();
            problem("username", message);
        }
        if self.cpu.as_deref().is_some_and(|cpu| cpu.trim().is_empty()) {
            problem("cpu", "an empty name; leave the key out for the default".to_owned());
        }
        if self.default_partitions.ovmf_vars.is_some()
            && self.default_partitions.ovmf_code.is_none()
        {
            let message = "variables without their firmware: set `OVMF_CODE.fd` as well".to_owned();
            problem("default_partitions.OVMF_VARS.fd", message);
        }
        if self.extra_args.iter().any(|argument| argument.contains('\0')) {
            problem("extra_args", "an argument with a NUL byte".to_owned());
        }
        found.extend(self.extra_args.iter().filter_map(|argument| refused(argument)));
        found.extend(self.hostfwd.problems());
        found
    }
}

/// The largest disk of a machine: the largest file of ext4, so that a dump of it fits.
const LARGEST_DISK: ByteSize = ByteSize::mebibytes(16 << 20);

/// An argument of QEMU that would hide the machine's state.
fn refused(argument: &str) -> Option<ConfigProblem> {
    let name = argument.strip_prefix("--").or(argument.strip_prefix('-'));
    let (why, hint) = match name {
        Some("daemonize") => {
            ("QEMU would leave its process", "leave it out: the machine runs on by itself")
        }
        Some("no-shutdown") => ("a guest that shuts down would never be off", NO_SHUTDOWN),
        _ if argument.split(',').any(|part| part == "shutdown=pause") => {
            ("a guest that shuts down would never be off", NO_SHUTDOWN)
        }
        _ => return None,
    };
    let message = format!("`{argument}` cannot be used: {why}");
    Some(ConfigProblem::new("extra_args", message).with_hint(hint))
}

/// The alternative to keeping QEMU after the guest's shutdown.
const NO_SHUTDOWN: &str = "leave it out; `-no-reboot` and `-action panic=pause` can be used";

fn is_host_name(name: &str) -> bool {
    let labels = name.split('.').all(|label| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    });
    labels && name.len() <= 253
}

fn is_user_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=32).contains(&name.len()) && !name.starts_with('-') && name.chars().all(fits)
}

#[cfg(test)]
mod tests;
