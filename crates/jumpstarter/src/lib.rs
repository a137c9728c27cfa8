//! Drive real and virtual devices, and write drivers for them: Jumpstarter in one dependency.
//!
//! The root is the driver model: [`Device`], the interfaces [`Power`],
//! [`Network`], [`Serial`] and [`Flasher`], and what drivers are made of. Each feature adds a
//! module of the same name:
//!
//! | feature | module | for |
//! |---|---|---|
//! | `client` (default) | `client` | devices of exporters elsewhere: `Device::from_env()` |
//! | `config` (in `client`, `exporter`, `cli`) | `config` | exporter files |
//! | `power`, `network`, `serial`, `flasher` | `power`, … | the generic drivers, and forwards, images |
//! | `console` (in `serial`, `qemu`) | `console` | consoles: expect, scripts, logins, command shells |
//! | `power-http`, `power-mqtt`, `power-snmp` | `power` | switches with a web interface, with MQTT, with SNMP |
//! | `websocket` | `network` | WebSockets |
//! | `shell`, `ssh` | `shell`, `ssh` | scripts of the host, and logins over SSH |
//! | `qemu` | `qemu` | virtual machines; has `power`, `network`, `flasher` |
//! | `exporter` | `exporter` | a program that serves a device |
//! | `daemon` | `daemon` | a program that runs an exporter, as `jmp run` does |
//! | `cli` | `cli` | a `jmp` and `j` with drivers of one's own; has every driver |
//! | `testkit` | `testkit` | tests of drivers: the conformance suite |
//! | `python` | `python` | devices of other exporters, and drivers in Python, as branches of a device |
//! | `supervise` | `supervise` | drivers that run programs: owned child processes |
//!
//! # A test of a device
//!
//! ```no_run
//! # #[cfg(feature = "client")]
//! use jumpstarter::prelude::*;
//!
//! # #[cfg(feature = "client")]
//! # async fn test() -> Result<()> {
//! let device = Device::from_env().await?;
//! device.get::<dyn Power>("power")?.on().await?;
//! # Ok(())
//! # }
//! ```
//!
//! In a lab the device is leased: `JMP_SELECTOR=board=rpi4` does so for `from_env`, and in code:
//!
//! ```no_run
//! # #[cfg(feature = "client")]
//! # async fn test() -> jumpstarter::Result<()> {
//! let device = jumpstarter::client::lab::Lease::request("board=rpi4").await?;
//! device.call("power", "on", vec![]).await?;
//! device.close().await
//! # }
//! ```
//!
//! # A driver
//!
//! ```
//! use jumpstarter::prelude::*;
//!
//! /// A relay.
//! #[config(crate = jumpstarter)]
//! #[derive(Debug)]
//! pub struct RelayConfig {
//!     /// Channel on the board, from 1.
//!     channel: u8,
//! }
//!
//! /// Counts what a relay does.
//! #[interface(name = "clicks", client = "acme.client.ClicksClient", crate = jumpstarter)]
//! pub trait Clicks {
//!     /// The clicks so far.
//!     async fn clicks(&self) -> Result<u32>;
//! }
//!
//! /// One relay.
//! #[derive(Debug)]
//! pub struct Relay(u8);
//!
//! #[async_trait]
//! impl DriverConfig for RelayConfig {
//!     const NAME: &'static str = "example-relay";
//!     type Driver = Relay;
//!     async fn open(self, _: OpenContext) -> Result<Relay> {
//!         Ok(Relay(self.channel))
//!     }
//! }
//! jumpstarter::register_driver!(RelayConfig);
//!
//! impl Driver for Relay {
//!     interfaces!(Power);
//! }
//!
//! #[async_trait]
//! impl Power for Relay {
//!     async fn on(&self) -> Result<()> {
//!         Ok(()) // Switches the relay `self.0`.
//!     }
//!     async fn off(&self) -> Result<()> {
//!         Ok(())
//!     }
//! }
//! ```
//!
//! `jmp new driver NAME` writes such a crate, with its tests and a `jmp` that has the driver.

#[doc(inline)]
pub use jumpstarter_driver_core::*;

#[cfg(feature = "cli")]
#[doc(inline)]
pub use jumpstarter_cli as cli;
#[cfg(feature = "client")]
#[doc(inline)]
pub use jumpstarter_client as client;
#[cfg(feature = "config")]
#[doc(inline)]
pub use jumpstarter_config as config;
#[cfg(feature = "console")]
#[doc(inline)]
pub use jumpstarter_console as console;
#[cfg(feature = "daemon")]
#[doc(inline)]
pub use jumpstarter_daemon as daemon;
#[cfg(feature = "flasher")]
#[doc(inline)]
pub use jumpstarter_driver_flasher as flasher;
#[cfg(feature = "gpio")]
#[doc(inline)]
pub use jumpstarter_driver_gpiod as gpio;
#[cfg(feature = "http")]
#[doc(inline)]
pub use jumpstarter_driver_http as http;
#[cfg(feature = "network")]
#[doc(inline)]
pub use jumpstarter_driver_network as network;
#[cfg(feature = "opendal")]
#[doc(inline)]
pub use jumpstarter_driver_opendal as opendal;
#[cfg(feature = "power")]
#[doc(inline)]
pub use jumpstarter_driver_power as power;
#[cfg(feature = "python")]
#[doc(inline)]
pub use jumpstarter_driver_python as python;
#[cfg(feature = "qemu")]
#[doc(inline)]
pub use jumpstarter_driver_qemu as qemu;
#[cfg(feature = "serial")]
#[doc(inline)]
pub use jumpstarter_driver_serial as serial;
#[cfg(feature = "shell")]
#[doc(inline)]
pub use jumpstarter_driver_shell as shell;
#[cfg(feature = "ssh")]
#[doc(inline)]
pub use jumpstarter_driver_ssh as ssh;
#[cfg(feature = "testkit")]
#[doc(inline)]
pub use jumpstarter_driver_testkit as testkit;
#[cfg(feature = "tftp")]
#[doc(inline)]
pub use jumpstarter_driver_tftp as tftp;
#[cfg(feature = "uboot")]
#[doc(inline)]
pub use jumpstarter_driver_uboot as uboot;
#[cfg(feature = "video")]
#[doc(inline)]
pub use jumpstarter_driver_video as video;
#[cfg(feature = "vnc")]
#[doc(inline)]
pub use jumpstarter_driver_vnc as vnc;
#[cfg(feature = "exporter")]
#[doc(inline)]
pub use jumpstarter_exporter as exporter;
#[cfg(feature = "screen")]
#[doc(inline)]
pub use jumpstarter_screen as screen;
#[cfg(feature = "supervise")]
#[doc(inline)]
pub use jumpstarter_supervise as supervise;

/// What drivers and tests of devices use all the time.
pub mod prelude {
    #[cfg(feature = "client")]
    #[doc(no_inline)]
    pub use jumpstarter_client::DeviceExt;
    #[cfg(feature = "config")]
    #[doc(no_inline)]
    pub use jumpstarter_config::ExporterConfig;
    #[cfg(feature = "console")]
    #[doc(no_inline)]
    pub use jumpstarter_console::SerialExt;
    #[doc(no_inline)]
    pub use jumpstarter_driver_core::prelude::*;
    #[cfg(feature = "qemu")]
    #[doc(no_inline)]
    pub use jumpstarter_driver_qemu::Machine;
}
