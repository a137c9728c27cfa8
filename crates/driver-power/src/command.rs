//! `command-power`: a switch that programs of the exporter's host operate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::{Output, run};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tracing::Instrument;

use crate::cycle::PowerCycle;
use crate::reading::reading;

/// How long a device is off in a cycle, unless the caller says so.
const OFF_TIME: Duration = Duration::from_secs(2);
/// The longest time that a device is off in a cycle.
const MAX_OFF_TIME: f64 = 3600.0;

/// A switch that programs of the exporter's host operate.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandPowerConfig {
    /// The program that switches on, and its arguments. No shell reads them.
    pub(crate) on: Program,
    /// The program that switches off, and its arguments.
    pub(crate) off: Program,
    /// The program that switches off and on again, and its arguments; without it, `off` and `on`
    /// run.
    pub(crate) cycle: Option<Program>,
    /// The program that prints a reading as JSON, and its arguments.
    pub(crate) read: Option<Program>,
    /// Where the voltage is in the reading: a JSON pointer (/meters/0/v), or names with dots
    /// between (meters.0.v). The field `voltage` where it is not given.
    pub(crate) voltage_path: Option<String>,
    /// Where the current is in the reading; the field `current` where it is not given.
    pub(crate) current_path: Option<String>,
    /// Environment variables for the programs.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, Secret>,
    /// The folder that the programs run in; the exporter's own where it is not given.
    pub(crate) cwd: Option<HostPath>,
    /// How long a program may take: seconds, or a time such as 2min.
    #[serde(default = "minute")]
    #[schemars(default = "minute")]
    pub(crate) timeout: Span,
    /// What the end of a lease does: `keep` leaves the device as it is, `off` switches it off.
    #[serde(default)]
    pub(crate) close: AtClose,
}

pub(crate) fn minute() -> Span {
    Span::from(Duration::from_secs(60))
}

#[async_trait]
impl DriverConfig for CommandPowerConfig {
    const NAME: &'static str = "command-power";
    type Driver = CommandPower;

    fn check(&self) -> Vec<ConfigProblem> {
        check(&self.env, self.timeout)
    }

    fn warnings(&self) -> Vec<ConfigProblem> {
        warnings(self.cwd.as_ref())
    }

    async fn open(self, _: OpenContext) -> Result<CommandPower> {
        let switch = Arc::new(Switch::new(self));
        Ok(CommandPower { switch, ending: watch::Sender::default() })
    }
}
register_driver!(CommandPowerConfig);

/// What is wrong with the environment or the time of programs.
pub(crate) fn check(env: &BTreeMap<String, Secret>, timeout: Span) -> Vec<ConfigProblem> {
    let mut found = Vec::new();
    for name in env.keys().filter(|name| name.is_empty() || name.contains(['=', '\0'])) {
        let field = format!("env.{name}");
        found.push(ConfigProblem::new(field, "is no name of an environment variable"));
    }
    if timeout.as_duration().is_zero() {
        found.push(ConfigProblem::new("timeout", "leaves a program no time to run"));
    }
    found
}

/// Whether the folder of programs is there.
pub(crate) fn warnings(cwd: Option<&HostPath>) -> Vec<ConfigProblem> {
    match cwd.map(HostPath::find) {
        Some(Err(error)) => vec![ConfigProblem::from_error("cwd", &error)],
        _ => Vec::new(),
    }
}

/// A switch that programs operate, one at a time.
#[derive(Debug)]
pub struct CommandPower {
    switch: Arc<Switch>,
    /// Changes when a cycle that is running has to end: it does not wait any longer.
    ending: watch::Sender<()>,
}

/// The programs of a switch, which run one at a time.
#[derive(Debug)]
pub(crate) struct Switch {
    pub(crate) config: CommandPowerConfig,
    turn: Arc<Mutex<()>>,
}

impl Switch {
    pub(crate) fn new(config: CommandPowerConfig) -> Self {
        Self { config, turn: Arc::default() }
    }

    pub(crate) async fn turn(&self) -> OwnedMutexGuard<()> {
        self.turn.clone().lock_owned().await
    }

    /// Runs one of the programs to its end, which must be a success. The caller has the turn.
    pub(crate) async fn run(&self, what: &str, program: &Program) -> Result<Output> {
        let doing = || format!("running `{what}`");
        let command = program.command();
        let env = self.config.env.iter();
        let command = env.fold(command, |command, (name, value)| command.env(name, value.expose()));
        let command = match &self.config.cwd {
            Some(folder) => command.current_dir(folder.located().await),
            None => command,
        };
        run(command, self.config.timeout.as_duration()).await.with_context(doing)
    }

    pub(crate) async fn switch(&self, what: &str, program: &Program) -> Result<()> {
        let _turn = self.turn().await;
        self.run(what, program).await?;
        tracing::info!("power {what}");
        Ok(())
    }

    pub(crate) async fn read(&self) -> Result<ValueStream<PowerReading>> {
        let CommandPowerConfig { read, voltage_path, current_path, .. } = &self.config;
        let Some(program) = read else {
            return Err(Error::unimplemented("this switch measures nothing")
                .with_hint("name a program that prints a reading: `read:` in the exporter file"));
        };
        let _turn = self.turn().await;
        let output = self.run("read", program).await?;
        let reading = reading(&output.stdout, voltage_path.as_deref(), current_path.as_deref());
        let reading = reading.context("reading the output of `read`")?;
        Ok(stream::iter([Ok(reading)]).boxed())
    }

    async fn cycle(&self, wait: Duration, mut ending: watch::Receiver<()>) -> Result<()> {
        match &self.config.cycle {
            Some(program) => drop(self.run("cycle", program).await?),
            None => {
                self.run("off", &self.config.off).await?;
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    _ = ending.changed() => {}
                }
                self.run("on", &self.config.on).await?;
            }
        }
        tracing::info!("power cycle");
        Ok(())
    }
}

impl CommandPower {
    /// What the end of a lease does. A cycle that its caller has left ends first, at once.
    async fn end(&self) -> Result<()> {
        // In this order: the caller that has the turn before learns of it.
        let (turn, ()) = tokio::join!(self.switch.turn(), async {
            self.ending.send_replace(());
        });
        drop(turn);
        self.switch.config.close.apply(self).await
    }
}

#[async_trait]
impl Driver for CommandPower {
    interfaces!(Power, PowerCycle);

    async fn reset(&self) -> Result<()> {
        self.end().await
    }

    async fn close(&self) -> Result<()> {
        self.end().await
    }
}

#[async_trait]
impl Power for CommandPower {
    async fn on(&self) -> Result<()> {
        self.switch.switch("on", &self.switch.config.on).await
    }

    async fn off(&self) -> Result<()> {
        self.switch.switch("off", &self.switch.config.off).await
    }

    async fn read(&self) -> Result<ValueStream<PowerReading>> {
        self.switch.read().await
    }
}

#[async_trait]
impl PowerCycle for CommandPower {
    async fn cycle(&self, wait: Option<f64>) -> Result<()> {
        let wait = match wait {
            None => OFF_TIME,
            Some(seconds @ 0.0..=MAX_OFF_TIME) => Duration::from_secs_f64(seconds),
            Some(_) => {
                let message = format!("`wait` is a number of seconds, {MAX_OFF_TIME} at the most");
                return Err(Error::invalid_argument(message));
            }
        };
        // Before the wait for the turn: the end of the lease may come meanwhile.
        let (switch, ending) = (self.switch.clone(), self.ending.subscribe());
        let turn = self.switch.turn().await;
        // A separate task: a caller that leaves must not leave the device off.
        let cycling = async move {
            let _turn = turn;
            switch.cycle(wait, ending).await
        };
        let cycling = tokio::spawn(cycling.in_current_span()).await;
        cycling.map_err(|error| Error::internal("the cycle broke down").with_source(error))?
    }
}
