//! What an exporter file says of a `vnc`.

use jumpstarter_driver_core::prelude::*;

use crate::driver::VncDriver;

/// The name of the child that leads to the VNC server.
const TCP: &str = "tcp";

/// Names the network endpoint of its child `tcp` as the screen of the device.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VncConfig {
    /// Whether a page in a browser connects to the client's bridge by TLS, unless its user says
    /// otherwise. The bridge itself has no TLS.
    #[serde(default)]
    pub(crate) default_encrypt: bool,
}

#[async_trait]
impl DriverConfig for VncConfig {
    const NAME: &'static str = "vnc";
    const PYTHON_NAMES: &'static [&'static str] = &["jumpstarter_driver_vnc.driver.Vnc"];
    const SYNONYMS: &'static [(&'static str, &'static str)] = &[("encrypt", "default_encrypt")];
    type Driver = VncDriver;

    fn wanted_children(&self) -> Vec<WantedChild> {
        vec![WantedChild::required(TCP).with::<dyn Network>().or_reference()]
    }

    async fn open(self, context: OpenContext) -> Result<VncDriver> {
        // It may be a proxy, whose target is not open yet: it is there, and that is enough.
        context.child(TCP).context("the child that leads to the VNC server")?;
        Ok(VncDriver::new(self))
    }
}
register_driver!(VncConfig);
