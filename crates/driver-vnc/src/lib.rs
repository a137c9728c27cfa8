//! Names a network endpoint as the screen of a device.
//!
//! `vnc` ([`VncDriver`]) connects nowhere itself: its child `tcp` is the way to the VNC server. A
//! client looks at the screen through that (the crate jumpstarter-screen does), or offers it to a
//! browser.

mod config;
mod driver;
mod interface;

pub use config::VncConfig;
pub use driver::VncDriver;
pub use interface::Vnc;
