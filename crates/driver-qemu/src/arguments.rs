//! QEMU's command line, as a pure function of the configuration, the host's facts, and the paths of
//! one run.
//!
//! Nothing depends on QEMU's defaults or a user's configuration files, so the machine is the same
//! everywhere. Devices are virtio: the guest needs drivers for virtio-blk and virtio-net, which
//! every Linux distribution has.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use crate::config::{Architecture, Protocol, QemuConfig};
use crate::disk::{Access, Disk};
use crate::host::{AcceleratorKind, HostFacts, SANDBOX};

/// The host's resources for one run of QEMU.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    /// QEMU's end of the socket for QMP.
    pub(crate) qmp: SocketEnd,
    /// QEMU's end of the serial console's socket. The connection stays over resets of the guest.
    pub(crate) console: SocketEnd,
    /// Where QEMU listens for VNC, without a password: its folder must be private.
    pub(crate) vnc: PathBuf,
    /// The firmware that the machine starts with.
    pub(crate) boot: Boot,
    /// The root disk; without it the firmware finds nothing to boot.
    pub(crate) root: Option<Disk>,
    /// cloud-init's disk; read only.
    pub(crate) seed: Option<Disk>,
    /// The guest's address on vsock, if the host supports it; 3 and up.
    pub(crate) vsock_cid: Option<u32>,
}

/// A connection of QEMU's.
#[derive(Debug, Clone)]
pub(crate) enum SocketEnd {
    /// A descriptor that it inherits.
    Inherited(RawFd),
    /// It connects to this socket when it starts.
    ConnectTo(PathBuf),
}

/// The firmware that a machine starts with.
#[derive(Debug, Clone)]
pub(crate) enum Boot {
    /// QEMU's own firmware: SeaBIOS on x86_64, none at all on aarch64.
    BuiltIn,
    /// This BIOS image.
    Bios(PathBuf),
    /// UEFI firmware, in two parts.
    Uefi {
        /// The code; read only.
        code: Disk,
        /// The variables; written, so an overlay or a copy. Without it, they are lost at every
        /// power-off.
        vars: Option<Disk>,
    },
}

/// A port of the guest, and the host's address for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forward {
    /// The transport protocol of the port.
    pub(crate) protocol: Protocol,
    /// The address at which QEMU listens; IPv4.
    pub(crate) host: SocketAddr,
    /// The guest's port.
    pub(crate) guestport: u16,
}

/// Returns QEMU's arguments, without the program.
pub(crate) fn command_line(
    config: &QemuConfig,
    facts: &HostFacts,
    paths: &Paths,
    forwards: &[Forward],
) -> Vec<OsString> {
    let mut line = Line(Vec::new());
    line.flag("-nodefaults");
    line.flag("-no-user-config");
    let chosen = |argument: &String| matches!(argument.as_str(), "-sandbox" | "--sandbox");
    if facts.sandbox.is_usable() && !config.extra_args.iter().any(chosen) {
        line.option("-sandbox", Value::new(SANDBOX));
    }
    // Names of threads show QEMU's activity in `top -H`.
    line.option("-name", Value::new("guest=").escaped(&config.hostname).plain(",debug-threads=on"));
    machine(&mut line, facts, &paths.boot);
    line.option("-cpu", Value::new("").plain(cpu(config, facts)));
    line.option("-smp", Value::new("").plain(&config.smp.to_string()));
    line.option("-m", Value::new("").plain(&memory(config.mem.as_bytes())));

    socket(&mut line, "qmp", &paths.qmp);
    line.option("-mon", Value::new("chardev=qmp,mode=control"));
    socket(&mut line, "console", &paths.console);
    line.option("-serial", Value::new("chardev:console"));

    line.option("-display", Value::new("none"));
    // With its key: a path with `=` in it would be parsed as a key and a value.
    line.option("-vnc", Value::new("vnc=unix:").escaped(&paths.vnc));
    match facts.target {
        // The BIOS shows its text on VGA. A PS/2 keyboard and a mouse exist by default.
        Architecture::X86_64 => line.device("virtio-vga"),
        Architecture::Aarch64 => {
            line.device("virtio-gpu-pci");
            line.device("virtio-keyboard-pci");
            line.device("virtio-tablet-pci");
        }
    }

    if let Some(root) = &paths.root {
        disk(&mut line, "root", root, Access::Write);
        line.device("virtio-blk-pci,drive=root,bootindex=1");
    }
    if let Some(seed) = &paths.seed {
        disk(&mut line, "seed", seed, Access::Read);
        line.device("virtio-blk-pci,drive=seed");
    }

    line.option("-netdev", network(config.restrict, forwards));
    // No ROM: the machine does not boot from the network.
    line.device("virtio-net-pci,netdev=net,romfile=");
    if let (Some(cid), true) = (paths.vsock_cid, facts.vsock.is_usable()) {
        line.device(&format!("vhost-vsock-pci,guest-cid={cid}"));
    }
    line.device("virtio-rng-pci");
    // A guest's panic becomes an event.
    line.device(match facts.target {
        Architecture::X86_64 => "pvpanic", // what guests older than the PCI variant know, too
        Architecture::Aarch64 => "pvpanic-pci",
    });
    line.0.extend(config.extra_args.iter().map(OsString::from));
    line.0
}

/// The machine type with its firmware, and the accelerator.
fn machine(line: &mut Line, facts: &HostFacts, boot: &Boot) {
    let mut machine = Value::new(match facts.target {
        Architecture::X86_64 => "q35",
        Architecture::Aarch64 => "virt",
    });
    if (facts.target, facts.accelerator.kind) == (Architecture::Aarch64, AcceleratorKind::Kvm) {
        machine = machine.plain(",gic-version=host");
    }
    match boot {
        Boot::BuiltIn => {}
        Boot::Bios(path) => line.option("-bios", Value::new("").raw(path)),
        Boot::Uefi { code, vars } => {
            disk(line, "firmware-code", code, Access::Read);
            machine = machine.plain(",pflash0=firmware-code");
            if let Some(vars) = vars {
                disk(line, "firmware-vars", vars, Access::Write);
                machine = machine.plain(",pflash1=firmware-vars");
            }
        }
    }
    line.option("-machine", machine);
    line.option("-accel", Value::new(facts.accelerator.kind.name()));
}

fn cpu<'a>(config: &'a QemuConfig, facts: &HostFacts) -> &'a str {
    match (&config.cpu, facts.accelerator.kind, facts.target) {
        (Some(cpu), ..) => cpu,
        (None, AcceleratorKind::Kvm | AcceleratorKind::Hvf, _) => "host",
        // QEMU's default lacks features that distributions for x86-64-v2 and v3 need.
        (None, AcceleratorKind::Tcg, Architecture::X86_64) => "max",
        // `max` has pointer authentication, which is slow to emulate.
        (None, AcceleratorKind::Tcg, Architecture::Aarch64) => "cortex-a57",
    }
}

/// Bytes with the largest unit that fits.
fn memory(bytes: u64) -> String {
    match bytes {
        bytes if bytes.is_multiple_of(1 << 20) => format!("{}M", bytes >> 20),
        bytes => format!("{}K", bytes.div_ceil(1 << 10)),
    }
}

fn socket(line: &mut Line, name: &str, end: &SocketEnd) {
    let value = Value::new("socket,id=").plain(name);
    let value = match end {
        SocketEnd::Inherited(fd) => value.plain(&format!(",fd={fd}")),
        SocketEnd::ConnectTo(path) => value.plain(",path=").escaped(path),
    };
    line.option("-chardev", value);
}

/// A disk with a name: a node for each of its files, the lowest first. No format is guessed, and a
/// file that is given as a descriptor, in a set of that number, is not opened by path.
fn disk(line: &mut Line, name: &str, disk: &Disk, access: Access) {
    let mut below: Option<String> = None;
    for (depth, layer) in disk.layers.iter().enumerate().rev() {
        let node = if depth == 0 { name.to_owned() } else { format!("{name}-{depth}") };
        let driver = if layer.image.is_block_device() { "host_device" } else { "file" };
        let mut value = Value::new("driver=")
            .plain(layer.image.format().name())
            .plain(",node-name=")
            .plain(&node);
        if let Some(below) = &below {
            value = value.plain(",backing=").plain(below);
        }
        value = value
            .plain(match access {
                // Space that the guest frees is freed on the host.
                Access::Write if depth == 0 => ",discard=unmap,file.discard=unmap",
                _ => ",read-only=on",
            })
            .plain(",file.driver=")
            .plain(driver)
            .plain(",file.filename=");
        value = match layer.fd {
            Some(fd) => {
                // QEMU shows the path, in `query-fdsets`, and does not use it.
                let descriptor = Value::new(&format!("fd={fd},set={fd},opaque="));
                line.option("-add-fd", descriptor.escaped(layer.image.path()));
                value.plain(&format!("/dev/fdset/{fd}"))
            }
            None => value.escaped(layer.image.path()),
        };
        line.option("-blockdev", value);
        below = Some(node);
    }
}

/// QEMU's user network: the guest gets 10.0.2.15 by DHCP, and, unless restricted, reaches
/// everything that the host reaches, the host's loopback included.
fn network(restrict: bool, forwards: &[Forward]) -> Value {
    let network = Value::new("user,id=net").plain(if restrict { ",restrict=on" } else { "" });
    forwards.iter().fold(network, |value, forward| {
        let (address, port) = (forward.host.ip(), forward.host.port());
        let protocol = forward.protocol.name();
        value.plain(&format!(",hostfwd={protocol}:{address}:{port}-:{}", forward.guestport))
    })
}

/// The arguments so far.
struct Line(Vec<OsString>);

impl Line {
    fn flag(&mut self, name: &str) {
        self.0.push(name.into());
    }

    fn option(&mut self, name: &str, value: Value) {
        self.0.push(name.into());
        self.0.push(value.0);
    }

    fn device(&mut self, value: &str) {
        self.option("-device", Value::new(value));
    }
}

/// One argument, in QEMU's `key=value,…` syntax, in which a comma in a value is written twice.
struct Value(OsString);

impl Value {
    fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Adds text that needs no escaping.
    fn plain(mut self, text: &str) -> Self {
        self.0.push(text);
        self
    }

    /// Adds a path where QEMU treats commas as plain characters.
    fn raw(mut self, path: &Path) -> Self {
        self.0.push(path);
        self
    }

    /// Adds a value, its commas doubled.
    fn escaped(mut self, value: impl AsRef<OsStr>) -> Self {
        use std::os::unix::ffi::{OsStrExt, OsStringExt};
        let bytes = value.as_ref().as_bytes();
        let doubled = bytes
            .iter()
            .flat_map(|byte| std::iter::repeat_n(*byte, if *byte == b',' { 2 } else { 1 }));
        self.0.push(OsString::from_vec(doubled.collect()));
        self
    }
}

#[cfg(test)]
mod tests;
