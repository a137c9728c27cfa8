//! `run`, `put` and `get`: commands and files of a device, over its console.

use std::path::PathBuf;

use clap::Args;
use jumpstarter_console::{ConsoleShell, Credentials, SerialExt};
use jumpstarter_driver_core::{Error, ResultExt, Secret, Serial, Span};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::fault::{Result, SUCCESS};
use crate::j::context::Context;
use crate::j::image;
use crate::j::verb::Say;
use crate::terminal::output;

/// The variable with the password.
const PASSWORD: &str = "JMP_CONSOLE_PASSWORD";

/// How to get a shell.
#[derive(Debug, Args)]
struct Login {
    /// Log in as this user if the device asks; the password is that of $JMP_CONSOLE_PASSWORD
    #[arg(short, long, default_value = "root")]
    user: String,
    /// How long the device may take to have a shell, such as while it boots
    #[arg(long, value_name = "TIME", default_value = "2min")]
    boot: Span,
    /// How long the work may take
    #[arg(long, value_name = "TIME", default_value = "5min")]
    timeout: Span,
}

impl Login {
    async fn shell(&self, context: &Context) -> Result<ConsoleShell> {
        let console = context.get::<dyn Serial>()?.expect().await?;
        let password = context.output.environment().variable(PASSWORD);
        let password = password.and_then(|text| text.into_string().ok()).map(Secret::new);
        let credentials = Credentials { user: self.user.clone(), password };
        Ok(ConsoleShell::open(console, Some(credentials), self.boot.as_duration()).await?)
    }
}

/// Runs a command in the device's shell, over the console, and prints its output
///
/// It logs in if the device asks. The output comes when the command has ended, without the kernel's
/// messages in between. The exit code is the command's.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  {path} run -- uname -a
  {path} run -u root 'dmesg | tail'
  JMP_CONSOLE_PASSWORD=secret {path} run --boot 5min -- systemctl is-system-running")]
pub(super) struct Run {
    #[command(flatten)]
    login: Login,
    /// The command; several words are joined by spaces
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Say for Run {
    const NAME: &'static str = "run";

    async fn run(self, context: &Context) -> Result<u8> {
        let mut shell = self.login.shell(context).await?;
        let done = shell.run(&self.command.join(" "), self.login.timeout.as_duration()).await?;
        if context.output.is_json() {
            let text = String::from_utf8_lossy(&done.output);
            context.output.value(&json!({"output": text, "exit_code": done.exit_code}))?;
        } else {
            let mut out = output()?;
            out.write_all(&done.output).await?;
            out.flush().await?;
        }
        Ok(done.exit_code)
    }
}

/// Copies a file of this machine to the device, over the console
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  {path} put ./agent /usr/local/bin/agent")]
pub(super) struct Put {
    #[command(flatten)]
    login: Login,
    /// The file here
    file: PathBuf,
    /// The path there
    path: String,
}

impl Say for Put {
    const NAME: &'static str = "put";

    async fn run(self, context: &Context) -> Result<u8> {
        let reading = || format!("reading {}", self.file.display());
        let bytes = tokio::fs::read(&self.file).await.map_err(Error::from);
        let bytes = bytes.with_context(reading)?;
        let mut shell = self.login.shell(context).await?;
        shell.put(&bytes, &self.path, self.login.timeout.as_duration()).await?;
        context.output.done()
    }
}

/// Copies a file of the device to this machine, over the console
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  {path} get /var/log/messages messages")]
pub(super) struct Get {
    #[command(flatten)]
    login: Login,
    /// The path there
    path: String,
    /// The file here; without it, standard output
    file: Option<PathBuf>,
}

impl Say for Get {
    const NAME: &'static str = "get";

    async fn run(self, context: &Context) -> Result<u8> {
        let to_file = self.file.is_some();
        let file = self.file.unwrap_or_else(|| image::STANDARD_STREAM.into());
        let mut sink = image::open_sink(file.as_os_str(), &context.output).await?;
        let mut shell = self.login.shell(context).await?;
        let bytes = shell.get(&self.path, self.login.timeout.as_duration()).await?;
        sink.write(bytes).await?;
        sink.finish().await?;
        if to_file { context.output.done() } else { Ok(SUCCESS) }
    }
}
