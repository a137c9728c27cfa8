//! Methods of the wrong form: every one is reported.

use jumpstarter_driver_core::prelude::*;

/// A lamp.
#[interface(name = "lamp", client = "acme.client.LampClient")]
pub trait Lamp {
    /// It does not wait.
    fn light(&self) -> Result<()>;
    /// It has no device.
    async fn count() -> Result<u32>;
    /// It wants the device for itself.
    async fn dim(&mut self) -> Result<()>;
    /// It answers nothing.
    async fn blink(&self);
    /// It cannot fail.
    async fn colour(&self) -> String;
    /// It takes anything.
    async fn set<T: Serialize>(&self, value: T) -> Result<()>;
    /// It returns an image.
    async fn picture(&self) -> Result<ImageSource>;
    /// It may return a channel.
    async fn talk(&self) -> Result<Option<Channel>>;
    async fn undocumented(&self) -> Result<()>;
}

fn main() {}
