//! The machine's interfaces beyond power, flasher, console and network.

use jumpstarter_driver_core::ShellOutput;
use jumpstarter_driver_core::prelude::*;

use crate::config::MemorySize;
use crate::state::{MachineEvent, MachineState, Phase, StopOutcome};

/// The lifecycle of a virtual machine.
///
/// Every method may be called from many tasks at once. A call that needs a running guest is refused
/// with `FailedPrecondition` in any other state, and names the state. Waits have deadlines from the
/// configuration (`timeouts`) and end at once when QEMU ends; the error then has QEMU's messages.
///
/// Closing the device, as at the exporter's end, powers a running machine off as its
/// configuration's `off` says (`cut`, or `graceful` as [`stop`](Self::stop) does), and destroys it.
#[interface(name = "machine", client = "jumpstarter_driver_qemu.client.QemuClient", native)]
pub trait Machine {
    /// Returns the machine's state.
    async fn state(&self) -> Result<MachineState>;

    /// Powers on; returns when QEMU's monitor answers. Idempotent. Cancelling leaves it off.
    async fn start(&self) -> Result<()>;

    /// Asks the guest over ACPI to shut down, and cuts the power if it does not in time; returns
    /// which one ended it. Idempotent; a crashed machine is off after it. Cancelling does not end
    /// the stop.
    async fn stop(&self) -> Result<StopOutcome>;

    /// Stops the guest's processors; returns when they have stopped, even if another caller resumes
    /// them next. Idempotent. QEMU pauses by itself if the host's disk is full; the state then says
    /// why.
    async fn pause(&self) -> Result<()>;

    /// Resumes a paused guest, and retries failed writes. Idempotent.
    async fn resume(&self) -> Result<()>;

    /// Presses the reset button: the guest boots again, and keeps its disks.
    async fn reset(&self) -> Result<()>;

    /// Presses the power button once and returns; the guest decides what follows.
    async fn power_button(&self) -> Result<()>;

    /// Cuts the power and removes the machine's process, sockets, overlays, flashed images and
    /// seed. Files named in the configuration are never touched. Ends a running start, flash or
    /// dump. Afterwards `state` is `destroyed`, and `stop` and `destroy` succeed; every other call
    /// is refused with `FailedPrecondition`. The machine is created again when its device is opened
    /// again, as by a restart of the exporter.
    async fn destroy(&self) -> Result<()>;

    /// Waits until the machine is in `state`, even for a moment, and returns it; `timeout` defaults
    /// to 60 s. `DeadlineExceeded` after it; `FailedPrecondition` at once if the machine powers
    /// off, crashes, or is destroyed instead. For a machine that is off it waits: another caller
    /// may start it.
    async fn wait_for(&self, state: Phase, timeout: Option<Span>) -> Result<MachineState>;

    /// Streams the machine's events from now on: changes of state and QEMU's events.
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
    /// shrinks if the guest wrote nothing there. Below the size of the image, or if the guest's
    /// data would be lost, the power-on is refused with `InvalidArgument`, until the size is
    /// changed or another image is flashed. `InvalidArgument` above 16 TiB.
    async fn set_disk_size(&self, size: ByteSize) -> Result<()>;

    /// Sets the size of the memory, such as `1G`, from the next power-on. A bare number below 1 MiB
    /// is a number of MiB.
    async fn set_memory_size(&self, size: MemorySize) -> Result<()>;
}

/// Images in registries of container images, with the names of the Python driver. The exporter
/// fetches them.
#[interface(name = "oci_flasher", client = "jumpstarter_driver_qemu.client.QemuFlasherClient")]
pub trait OciFlasher {
    /// Writes the image at `oci_url` (`oci://registry/repository:tag`) to `partition`. Without a
    /// user and a password, the exporter's own credentials are used. Streams what is done, and
    /// ends with the exit code 0.
    async fn flash_oci(
        &self,
        oci_url: String,
        partition: Option<String>,
        oci_username: Option<String>,
        oci_password: Option<String>,
    ) -> Result<ValueStream<ShellOutput>>;
}
