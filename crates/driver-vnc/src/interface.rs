//! The interface of drivers that name a screen.

use jumpstarter_driver_core::prelude::*;

/// Names the screen whose VNC server the child `tcp` reaches.
#[interface(name = "vnc", client = "jumpstarter_driver_vnc.client.VNClient")]
pub trait Vnc {
    /// Whether a page in a browser connects to the client's bridge by TLS, unless its user says
    /// otherwise.
    async fn get_default_encrypt(&self) -> Result<bool>;
}
