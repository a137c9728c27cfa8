//! The generic interfaces: power, network, serial, flasher and storage multiplexer. Method names
//! and argument order are those of the Jumpstarter protocol, so the Python clients of the same
//! names drive them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::call::ValueStream;
use crate::channel::Channel;
use crate::error::{Error, Result};
use crate::flashing::FlashTargets;
use crate::image::{ImageSink, ImageSource};
use crate::interface;
use crate::interface::Interfaces;
use crate::units::Span;

/// One reading of a power meter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PowerReading {
    /// Volts.
    pub voltage: f64,
    /// Amperes.
    pub current: f64,
}

/// Switches a device's power.
///
/// Both switches are idempotent: on when on, and off when off, succeed and change nothing. `off`
/// cuts the power like pulling a plug; a driver that can shut a device down offers that in a
/// separate interface.
///
/// Pitfall: `on` returns when power is applied, not when the device has booted. Wait for what you
/// need, such as a prompt on the console.
#[interface(name = "power", client = "jumpstarter_driver_power.client.PowerClient")]
pub trait Power {
    /// Applies power. Cancelling leaves the device on or off, never in between; a second call is
    /// allowed.
    async fn on(&self) -> Result<()>;

    /// Cuts power.
    async fn off(&self) -> Result<()>;

    /// Streams readings of the power meter until dropped. `Unimplemented` without a meter.
    async fn read(&self) -> Result<ValueStream<PowerReading>> {
        Err(Error::unimplemented("this power driver measures nothing"))
    }
}

/// Reaches a network endpoint of a device.
///
/// Each `connect` opens a separate connection; many may be open at once. Half-close is kept:
/// finishing the writing half leaves the reading half open.
#[interface(name = "network", client = "jumpstarter_driver_network.client.NetworkClient")]
pub trait Network {
    /// Connects. `Unavailable` if nothing answers. Dropping the channel closes the connection.
    async fn connect(&self) -> Result<Channel>;

    /// Returns the endpoint's address, such as `tcp://127.0.0.1:8080`. `Unimplemented` if it has no
    /// address, `InvalidArgument` if the configuration hides it.
    async fn address(&self) -> Result<String> {
        Err(Error::unimplemented("this network endpoint has no address"))
    }
}

/// The settings of a serial line. A value that is absent stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SerialSettings {
    /// Bits per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baudrate: Option<u32>,
    /// Bits of a character: 5 to 8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_bits: Option<u8>,
    /// The parity bit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parity: Option<SerialParity>,
    /// Stop bits: 1 or 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_bits: Option<u8>,
    /// How each end makes the other wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_control: Option<SerialFlowControl>,
}

impl SerialSettings {
    /// These, and those of `others` where these are absent.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            baudrate: self.baudrate.or(others.baudrate),
            data_bits: self.data_bits.or(others.data_bits),
            parity: self.parity.or(others.parity),
            stop_bits: self.stop_bits.or(others.stop_bits),
            flow_control: self.flow_control.or(others.flow_control),
        }
    }
}

/// The parity bit of a serial line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SerialParity {
    /// No parity bit.
    None,
    /// An odd number of ones.
    Odd,
    /// An even number of ones.
    Even,
}

/// How each end of a serial line makes the other wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SerialFlowControl {
    /// It does not.
    None,
    /// The characters XON and XOFF.
    Software,
    /// The lines RTS and CTS.
    Hardware,
}

/// Talks to a serial console.
#[interface(name = "serial", client = "jumpstarter_driver_pyserial.client.PySerialClient")]
pub trait Serial {
    /// Opens the port. Dropping the channel closes it.
    async fn connect(&self) -> Result<Channel>;

    /// Sets the DTR line. `Unimplemented` if the port has none.
    async fn set_dtr(&self, level: bool) -> Result<()> {
        Err(Error::unimplemented(format!("this port has no DTR line to set to {level}")))
    }

    /// Sets the RTS line. `Unimplemented` if the port has none.
    async fn set_rts(&self, level: bool) -> Result<()> {
        Err(Error::unimplemented(format!("this port has no RTS line to set to {level}")))
    }

    /// Sends a break of this length; 250 ms by default, 10 s at most. `Unimplemented` if the port
    /// cannot.
    async fn send_break(&self, duration: Option<Span>) -> Result<()> {
        let duration = duration.unwrap_or(Span::milliseconds(250));
        Err(Error::unimplemented(format!("this port cannot send a break of {duration}")))
    }

    /// Changes the settings that are given, for every client and until the driver is reset, and
    /// returns all that are known. `Unimplemented` if the port has none.
    async fn configure(&self, settings: SerialSettings) -> Result<SerialSettings> {
        Err(Error::unimplemented(format!("this port has no settings to change ({settings:?})")))
    }

    /// Ends every open connection to the port; it can be opened again.
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

/// Writes images to a device and reads them back.
///
/// A flash either succeeds completely or keeps the old image: a truncated or corrupt source, or one
/// with another digest than expected, is `DataLoss`, never a success.
#[interface(
    name = "flasher",
    client = "jumpstarter_driver_opendal.client.FlasherClient",
    also = ["jumpstarter.client.flasher.FlasherClient"]
)]
pub trait Flasher {
    /// Writes an image (compressed ones are decompressed by their signature) to `target`, a
    /// partition's name, by default the driver's default. `FailedPrecondition` while the device is
    /// in use, `InvalidArgument` for an unknown target. Cancelling keeps the old image.
    async fn flash(&self, source: ImageSource, target: Option<String>) -> Result<()>;

    /// Reads the image of `partition` into `target`. Cancelling leaves an incomplete target; an
    /// incomplete file is removed.
    async fn dump(&self, target: ImageSink, partition: Option<String>) -> Result<()>;

    /// Returns the names that `flash` takes as its target, so that a flash of several targets is
    /// refused before the first write. `Unimplemented` if the driver does not know them.
    async fn targets(&self) -> Result<FlashTargets> {
        Err(Error::unimplemented("this flasher does not list its targets"))
    }
}

/// Switches a storage medium, such as an SD card, between the exporter's host and the device.
///
/// The switches are idempotent. The medium is written and read while the host has it:
/// [`flash_medium`](crate::storage::flash_medium) and
/// [`dump_medium`](crate::storage::dump_medium) take it, and give it back.
#[interface(name = "storage_mux", client = "jumpstarter_driver_opendal.client.StorageMuxClient")]
pub trait StorageMux {
    /// Connects the medium to the exporter's host.
    async fn host(&self) -> Result<()>;

    /// Connects the medium to the device.
    async fn dut(&self) -> Result<()>;

    /// Disconnects the medium from both.
    async fn off(&self) -> Result<()>;

    /// Writes an image to the medium. `FailedPrecondition` where the driver knows that the host
    /// does not have it.
    async fn write(&self, source: ImageSource) -> Result<()>;

    /// Reads the medium into `target`. `FailedPrecondition` where the driver knows that the host
    /// does not have it.
    async fn read(&self, target: ImageSink) -> Result<()>;
}

impl<'a> Interfaces<'a> {
    /// Adds [`Power`].
    #[must_use]
    pub fn power(self, power: &'a (dyn Power + 'static)) -> Self {
        self.with::<dyn Power>(power)
    }

    /// Adds [`Network`].
    #[must_use]
    pub fn network(self, network: &'a (dyn Network + 'static)) -> Self {
        self.with::<dyn Network>(network)
    }

    /// Adds [`Serial`].
    #[must_use]
    pub fn serial(self, serial: &'a (dyn Serial + 'static)) -> Self {
        self.with::<dyn Serial>(serial)
    }

    /// Adds [`Flasher`].
    #[must_use]
    pub fn flasher(self, flasher: &'a (dyn Flasher + 'static)) -> Self {
        self.with::<dyn Flasher>(flasher)
    }

    /// Adds [`StorageMux`].
    #[must_use]
    pub fn storage_mux(self, mux: &'a (dyn StorageMux + 'static)) -> Self {
        self.with::<dyn StorageMux>(mux)
    }
}
