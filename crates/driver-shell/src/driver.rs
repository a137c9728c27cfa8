//! The driver: one method for each script.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::Sink;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Method, ShellConfig};
use crate::environment::{self, without_zero};
use crate::run::Run;

/// Runs the scripts that its configuration names.
#[derive(Debug)]
pub struct ShellDriver {
    config: ShellConfig,
    closed: CancellationToken,
    /// One task for each running script.
    running: TaskTracker,
}

impl ShellDriver {
    /// Makes the driver of a configuration.
    pub(crate) fn new(config: ShellConfig) -> Self {
        Self { config, closed: CancellationToken::new(), running: TaskTracker::new() }
    }

    fn method(&self, name: &str) -> Result<&Method> {
        self.config.methods.get(name).ok_or_else(|| {
            let names = self.config.methods.keys().map(String::as_str);
            Error::invalid_argument(format!("there is no method `{}`", name.escape_debug()))
                .with_hint(suggest::hint(name, names))
        })
    }
}

#[async_trait]
impl Driver for ShellDriver {
    interfaces!(Shell);

    fn methods_description(&self) -> Vec<(String, String)> {
        let described = self
            .config
            .methods
            .iter()
            .filter_map(|(name, method)| Some((name.clone(), method.description.clone()?)));
        described.collect()
    }

    async fn close(&self) -> Result<()> {
        self.closed.cancel();
        self.running.close();
        self.running.wait().await;
        Ok(())
    }
}

#[async_trait]
impl Shell for ShellDriver {
    async fn get_methods(&self) -> Result<Vec<String>> {
        Ok(self.config.methods.keys().cloned().collect())
    }

    async fn call_method(
        &self,
        method: String,
        env: Option<BTreeMap<String, String>>,
        args: Rest<String>,
    ) -> Result<ValueStream<ShellOutput>> {
        let script = self.method(&method)?;
        let (env, args) = (env.unwrap_or_default(), args.0);
        environment::check(&env)?;
        for (number, argument) in (1..).zip(&args) {
            without_zero(argument, || format!("argument {number}"))?;
        }
        if self.closed.is_cancelled() {
            return Err(Error::failed_precondition("the driver is closed"));
        }
        let command = self.config.shell.command().args([&script.command, &method]).args(&args);
        let command = env.iter().fold(command, |command, (name, value)| command.env(name, value));
        let command = match &self.config.cwd {
            Some(folder) => command.current_dir(folder.located().await),
            None => command,
        };
        tracing::info!("running {method}");
        let child = command.stdout(Sink::Piped).stderr(Sink::Piped).spawn().await;
        let child = child.with_context(|| format!("running `{method}`"))?;
        let limit = script.timeout.unwrap_or(self.config.timeout).as_duration();
        let run = Run::new(method, child, limit, self.closed.clone(), &self.running);
        Ok(run.into_stream().boxed())
    }
}
