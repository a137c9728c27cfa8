//! What an exporter file says of a `uboot`.

use jumpstarter_driver_core::prelude::*;

use crate::driver::UbootDriver;

/// The names of the children: the board's switch and its console.
pub(crate) const POWER: &str = "power";
pub(crate) const SERIAL: &str = "serial";

/// A board with U-Boot, whose switch is the child `power` and whose console is the child `serial`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UbootConfig {
    /// The prompt of U-Boot, with the newline before it.
    #[serde(default = "prompt")]
    pub(crate) prompt: String,
}

fn prompt() -> String {
    "\n=>".to_owned()
}

#[async_trait]
impl DriverConfig for UbootConfig {
    const NAME: &'static str = "uboot";
    const PYTHON_NAMES: &'static [&'static str] = &["jumpstarter_driver_uboot.driver.UbootConsole"];
    type Driver = UbootDriver;

    fn check(&self) -> Vec<ConfigProblem> {
        if self.prompt.trim().is_empty() {
            let problem = ConfigProblem::new("prompt", "is blank, and would be found everywhere");
            return vec![
                problem.with_hint("write what U-Boot shows when it waits, such as \"=>\""),
            ];
        }
        Vec::new()
    }

    fn wanted_children(&self) -> Vec<WantedChild> {
        vec![
            WantedChild::required(POWER).with::<dyn Power>().or_reference(),
            WantedChild::required(SERIAL).with::<dyn Serial>().or_reference(),
        ]
    }

    async fn open(self, context: OpenContext) -> Result<UbootDriver> {
        // They may be proxies, whose targets are not open yet: they are there, and that is enough.
        context.child(POWER).context("the child that switches the board")?;
        context.child(SERIAL).context("the child with the board's console")?;
        Ok(UbootDriver::new(self))
    }
}
register_driver!(UbootConfig);
