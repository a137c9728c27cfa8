//! QEMU virtual machines as a device.
//!
//! - In exporter files: the driver `qemu` ([`QemuConfig`], [`Qemu`]), with the children `power`,
//!   `flasher`, `console`, `vnc`, `ssh` (where vsock works) and one network for each `hostfwd`.
//! - In programs: [`QemuDriver`] makes machines ([`Vm`]) by name; [`Machine`] has their methods.
//! - [`QemuImage`] creates, inspects, grows, converts and overlays disk images.
//! - [`qmp`] talks to a QEMU that another program started. Only this module exposes types of the
//!   crate `qapi`.
//!
//! A machine's files are in its private folder, which is removed with it: sockets, overlays,
//! flashed images. Files that a configuration names are never written, unless `root_writes:
//! persist` is set.

mod arguments;
mod builder;
mod config;
mod console;
mod disk;
mod driver;
mod flasher;
mod folders;
mod host;
mod interface;
mod launch;
mod lock;
mod names;
mod off_runtime;
mod parts;
mod ports;
mod power;
pub mod qmp;
mod run;
mod seed;
mod serial;
mod state;
mod status;
mod storage;
mod vm;
mod vsock;

pub use builder::QemuDriver;
pub use config::{
    Accel, Architecture, HostForward, HostForwards, MemorySize, OffMode, Partitions, Protocol,
    QemuConfig, RootWrites, Timeouts,
};
pub use disk::{BackingName, DiskFormat, Header, ImageInfo, QemuImage, References, Save, Shrink};
pub use driver::{GUEST_PORT, Qemu};
pub use host::{
    Accelerator, AcceleratorKind, Firmware, HostFacts, KvmFacts, QemuVersion, Sandbox, Vsock,
};
pub use interface::{Machine, OciFlasher, QemuSettings};
pub use ports::ForwardedPort;
pub use state::{MachineEvent, MachineState, Phase, StopOutcome};
pub use vm::Vm;
