//! `command-virtual-power`: a virtual device that programs of the exporter's host operate.

use std::collections::BTreeMap;

use jumpstarter_driver_core::prelude::*;

use crate::command::{CommandPowerConfig, Switch, check, minute, warnings};
use crate::virtual_power::VirtualPower;

/// A virtual device that programs of the exporter's host switch and destroy.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandVirtualPowerConfig {
    /// The program that switches on, and its arguments; it makes a device that was destroyed. No
    /// shell reads them.
    on: Program,
    /// The program that switches off, and its arguments.
    off: Program,
    /// The program that destroys the device, which is off, and its arguments.
    destroy: Program,
    /// The program that prints a reading as JSON, and its arguments.
    read: Option<Program>,
    /// Where the voltage is in the reading: a JSON pointer (/meters/0/v), or names with dots
    /// between (meters.0.v). The field `voltage` where it is not given.
    voltage_path: Option<String>,
    /// Where the current is in the reading; the field `current` where it is not given.
    current_path: Option<String>,
    /// Environment variables for the programs.
    #[serde(default)]
    env: BTreeMap<String, Secret>,
    /// The folder that the programs run in; the exporter's own where it is not given.
    cwd: Option<HostPath>,
    /// How long a program may take: seconds, or a time such as 2min.
    #[serde(default = "minute")]
    #[schemars(default = "minute")]
    timeout: Span,
    /// What the end of a lease does: `keep` leaves the device as it is, `off` switches it off.
    #[serde(default)]
    close: AtClose,
}

#[async_trait]
impl DriverConfig for CommandVirtualPowerConfig {
    const NAME: &'static str = "command-virtual-power";
    type Driver = CommandVirtualPower;

    fn check(&self) -> Vec<ConfigProblem> {
        check(&self.env, self.timeout)
    }

    fn warnings(&self) -> Vec<ConfigProblem> {
        warnings(self.cwd.as_ref())
    }

    async fn open(self, _: OpenContext) -> Result<CommandVirtualPower> {
        let Self { on, off, destroy, read, voltage_path, current_path, env, cwd, timeout, close } =
            self;
        let switch = Switch::new(CommandPowerConfig {
            on,
            off,
            cycle: None,
            read,
            voltage_path,
            current_path,
            env,
            cwd,
            timeout,
            close,
        });
        Ok(CommandVirtualPower { switch, destroy })
    }
}
register_driver!(CommandVirtualPowerConfig);

/// A virtual device that programs operate, one at a time.
#[derive(Debug)]
pub struct CommandVirtualPower {
    switch: Switch,
    destroy: Program,
}

impl CommandVirtualPower {
    async fn end(&self) -> Result<()> {
        match self.switch.config.close {
            AtClose::Keep => Ok(()),
            AtClose::Off => self.off(None).await.context("switching off at the end"),
        }
    }
}

#[async_trait]
impl Driver for CommandVirtualPower {
    interfaces!(VirtualPower);

    async fn reset(&self) -> Result<()> {
        self.end().await
    }

    async fn close(&self) -> Result<()> {
        self.end().await
    }
}

#[async_trait]
impl VirtualPower for CommandVirtualPower {
    async fn on(&self) -> Result<()> {
        self.switch.switch("on", &self.switch.config.on).await
    }

    async fn off(&self, destroy: Option<bool>) -> Result<()> {
        let _turn = self.switch.turn().await;
        self.switch.run("off", &self.switch.config.off).await?;
        tracing::info!("power off");
        if destroy == Some(true) {
            self.switch.run("destroy", &self.destroy).await?;
            tracing::info!("destroyed");
        }
        Ok(())
    }

    async fn read(&self) -> Result<ValueStream<PowerReading>> {
        self.switch.read().await
    }
}
