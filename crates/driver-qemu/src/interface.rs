//! The machine's own interfaces: what a virtual machine can do beyond power, flasher, console and
//! network.

use jumpstarter_driver_core::prelude::*;

use crate::config::MemorySize;
use crate::state::{MachineEvent, MachineState, Phase, StopOutcome};

/// The lifecycle of a virtual machine.
///
/// Every method may be called from many tasks at once. A call that needs a running guest is refused
/// with `FailedPrecondition` in any other state, and names the state. Waits have deadlines from the
/// configuration (`timeouts`) and end at once when QEMU ends; the error then carries QEMU's
/// messages.
///
/// Closing the device, as an exporter does at its end, powers a machine that runs off as `off` of
/// its configuration says (`cut`, or `graceful` as [`stop`](Self::stop) does), and destroys it.
#[interface(name = "machine", client = "jumpstarter_driver_qemu.client.QemuClient", native)]
pub trait Machine {
    /// What the machine is doing.
    async fn state(&self) -> Result<MachineState>;

    /// Powers on; returns when QEMU's monitor answers. Idempotent. Cancelling leaves it off.
    async fn start(&self) -> Result<()>;

    /// Asks the guest over ACPI to shut down, then cuts the power when it does not in time; says
    /// which it took. Idempotent; a crashed machine is off after it. Cancelling does not stop
    /// the stopping.
    async fn stop(&self) -> Result<StopOutcome>;

    /// Stops the guest's processors; returns when they stand, even if another caller resumes them
    /// next. Idempotent. QEMU does the same by itself when the host's disk is full; the state then
    /// says why.
    async fn pause(&self) -> Result<()>;

    /// Lets a paused guest go on, and tries again to write what could not be written. Idempotent.
    async fn resume(&self) -> Result<()>;

    /// Presses the reset button: the guest boots again, its disks are kept.
    async fn reset(&self) -> Result<()>;

    /// Presses the power button once and returns; what follows is up to the guest.
    async fn power_button(&self) -> Result<()>;

    /// Cuts the power and removes what the machine holds: process, sockets, overlays, flashed
    /// images, seed. Files named in the configuration are never touched. Ends a start, a flash
    /// or a dump under way. After it `state` says `destroyed`, and `stop` and `destroy`
    /// succeed; every other call is refused with `FailedPrecondition`. It is made anew when its
    /// device is opened again, as by a restart of the exporter.
    async fn destroy(&self) -> Result<()>;

    /// Waits until the machine is in `state`, were it for a moment, and returns it; `timeout`
    /// defaults to 60 s. `DeadlineExceeded` otherwise; `FailedPrecondition` at once when the
    /// machine goes off or crashes, or is destroyed, instead. A machine that is off is waited
    /// for: somebody may start it.
    async fn wait_for(&self, state: Phase, timeout: Option<Span>) -> Result<MachineState>;

    /// Streams what happens to the machine from now on: changes of state and QEMU's events.
    async fn events(&self) -> Result<ValueStream<MachineEvent>>;
}

/// The settings of a QEMU machine, with the names of the Python driver.
#[interface(name = "qemu", client = "jumpstarter_driver_qemu.client.QemuClient")]
pub trait QemuSettings {
    /// The guest's host name.
    async fn get_hostname(&self) -> Result<String>;

    /// The guest's user.
    async fn get_username(&self) -> Result<String>;

    /// The password of the guest's user.
    async fn get_password(&self) -> Result<String>;

    /// Sets the size of the root disk, such as `20G`, from the next power-on. The disk grows, and
    /// becomes smaller again where the guest wrote nothing: below the size of the image, or
    /// where something that the guest wrote would be lost, the power-on is refused with
    /// `InvalidArgument`, until the size is right or another image is flashed.
    /// `InvalidArgument` above 16 TiB.
    async fn set_disk_size(&self, size: ByteSize) -> Result<()>;

    /// Sets the size of the memory, such as `1G`, from the next power-on. A bare number below 1 MiB
    /// is one of MiB.
    async fn set_memory_size(&self, size: MemorySize) -> Result<()>;
}
