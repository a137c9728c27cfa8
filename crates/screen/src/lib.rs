//! Looks at a device's screen over VNC (the RFB protocol, RFC 6143).
//!
//! [`Screen`] is a client of a VNC server, such as that of a virtual machine or of a KVM switch,
//! at the end of a [`Network`](jumpstarter_driver_core::Network) endpoint. It takes [`Picture`]s.
//! With the feature `browser`, `Bridge` offers a screen to a page with noVNC on this machine.
//!
//! ```no_run
//! # use jumpstarter_driver_core::{Device, Network, Result};
//! use jumpstarter_screen::Screen;
//!
//! # async fn example(device: &Device) -> Result<()> {
//! let network = device.get::<dyn Network>("vm.vnc")?;
//! let mut screen = Screen::open(network.connect().await?, None).await?;
//! let picture = screen.snapshot().await?;
//! std::fs::write("screen.png", picture.to_png()?)?;
//! # Ok(()) }
//! ```
//!
//! Nothing that a server says is trusted: sizes are bounded before memory is taken.

#[cfg(feature = "browser")]
mod bridge;
mod handshake;
mod password;
mod picture;
mod screen;
mod updates;
mod zrle;

#[cfg(feature = "browser")]
pub use bridge::{Bridge, NOVNC};
pub use picture::Picture;
pub use screen::Screen;
