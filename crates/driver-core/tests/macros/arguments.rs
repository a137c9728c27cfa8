//! Arguments that cannot travel.

use jumpstarter_driver_core::prelude::*;

/// A lamp.
#[interface(name = "lamp", client = "acme.client.LampClient")]
pub trait Lamp {
    /// It borrows text.
    async fn name(&self, name: &str) -> Result<()>;
    /// It borrows bytes.
    async fn bytes(&self, bytes: &[u8]) -> Result<()>;
    /// It takes whatever has a name.
    async fn any(&self, name: impl Into<String>) -> Result<()>;
    /// It names the parts, not the argument.
    async fn mix(&self, (red, green): (u8, u8)) -> Result<()>;
    /// It takes an image, or none.
    async fn show(&self, image: Option<ImageSource>) -> Result<()>;
    /// It takes a channel.
    async fn listen(&self, channel: Channel) -> Result<()>;
    /// It takes any number of words, and then a number.
    async fn say(&self, words: Rest<String>, times: u32) -> Result<()>;
}

fn main() {}
