//! The console of U-Boot, the boot loader.
//!
//! `uboot` ([`UbootDriver`]) names the power switch and the serial console of a board, and its
//! prompt. The work is the client's: [`UbootConsole`] stops the autoboot, runs commands with their
//! output and exit code, and sets the environment.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use jumpstarter_driver_core::{Device, Result};
//! use jumpstarter_driver_uboot::UbootConsole;
//!
//! # async fn example(device: &Device) -> Result<()> {
//! let mut uboot = UbootConsole::reboot(device, "uboot", Duration::from_secs(30)).await?;
//! uboot.set_env("bootargs", Some("console=ttyS0 quiet")).await?;
//! let address = uboot.set_up_dhcp(Duration::from_secs(60)).await?;
//! let listing = uboot.run_checked("ls virtio 0:1", Duration::from_secs(10)).await?;
//! println!("{} {listing}", address.ip_address);
//! # Ok(()) }
//! ```

mod client;
mod config;
mod dhcp;
mod driver;
mod interface;
mod words;

pub use client::{UbootConsole, UbootOutput};
pub use config::UbootConfig;
pub use dhcp::DhcpInfo;
pub use driver::UbootDriver;
pub use interface::Uboot;
