//! Generic power drivers.
//!
//! - `mock-power` ([`MockPower`]) switches nothing and remembers its position: for trying out
//!   exporter files, and as the first driver to read.
//! - `command-power` ([`CommandPower`]) runs programs of the exporter's host.
//! - `command-virtual-power` ([`CommandVirtualPower`]) does so for a virtual device, which it can
//!   destroy ([`VirtualPower`]).
//! - `http-power` and `energenie` are the feature `http`: switches with a web interface, and a
//!   power strip with a web page.
//! - `tasmota` is the feature `mqtt`: a plug behind an MQTT broker.
//! - `snmp` is the feature `snmp`: an outlet of a power distribution unit.

mod command;
mod command_virtual;
mod cycle;
#[cfg(feature = "http")]
mod energenie;
#[cfg(feature = "http")]
mod http;
mod mock;
mod reading;
#[cfg(feature = "snmp")]
mod snmp;
#[cfg(feature = "mqtt")]
mod tasmota;
mod virtual_power;

pub use command::{CommandPower, CommandPowerConfig};
pub use command_virtual::{CommandVirtualPower, CommandVirtualPowerConfig};
pub use cycle::PowerCycle;
#[cfg(feature = "http")]
pub use energenie::{Energenie, EnergenieConfig};
#[cfg(feature = "http")]
pub use http::{HttpAuth, HttpBasicAuth, HttpEndpoint, HttpPower, HttpPowerConfig};
pub use jumpstarter_driver_core::AtClose;
pub use mock::{MockPower, MockPowerConfig};
#[cfg(feature = "snmp")]
pub use snmp::{SnmpAuthentication, SnmpPower, SnmpPowerConfig, SnmpPrivacy, SnmpVersion};
#[cfg(feature = "mqtt")]
pub use tasmota::{MqttTransport, Tasmota, TasmotaConfig};
pub use virtual_power::VirtualPower;
