//! Verbs of boards with U-Boot.

use clap::{Args, Subcommand};
use jumpstarter_driver_core::Span;
use jumpstarter_driver_uboot::UbootConsole;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::fault::{FAILURE, Result, SUCCESS};
use crate::j::context::Context;
use crate::j::verb::{Say, Verb};
use crate::j::verbs::serial;
use crate::terminal::output;

pub(super) static VERBS: &[Verb] = &[
    Verb::of::<Reboot>(),
    Verb::of::<Run>(),
    Verb::of::<Environment>(),
    Verb::of::<Dhcp>(),
    Verb::of::<StartConsole>(),
];

/// How to get to the prompt.
#[derive(Debug, Args)]
struct Prompt {
    /// Switch the board off and on first, and stop its autoboot
    #[arg(long)]
    reboot: bool,
    /// How long U-Boot may take to its prompt after --reboot
    #[arg(long, value_name = "TIME", default_value = "1min")]
    boot: Span,
    /// How long the work may take
    #[arg(long, value_name = "TIME", default_value = "1min")]
    timeout: Span,
}

impl Prompt {
    async fn reach(&self, context: &Context) -> Result<UbootConsole> {
        let (device, path) = (context.device(), &context.path);
        Ok(match self.reboot {
            true => UbootConsole::reboot(device, path, self.boot.as_duration()).await?,
            false => UbootConsole::attach(device, path).await?,
        })
    }
}

/// Switches the board off and on, and stops U-Boot's autoboot: it waits at its prompt
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  {path} reboot && {path} run version")]
struct Reboot {
    /// How long U-Boot may take to its prompt
    #[arg(long, value_name = "TIME", default_value = "1min")]
    timeout: Span,
}

impl Say for Reboot {
    const NAME: &'static str = "reboot";

    async fn run(self, context: &Context) -> Result<u8> {
        let deadline = self.timeout.as_duration();
        UbootConsole::reboot(context.device(), &context.path, deadline).await?;
        context.output.done()
    }
}

/// Runs a command of U-Boot, which waits at its prompt, and prints its output
///
/// The exit code is the command's. A command that leaves U-Boot, such as boot, has no answer: use
/// `serial pipe` for it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  {path} run version
  {path} run --reboot -- ls virtio 0:1
  {path} run 'if test -e virtio 0:1 /vmlinuz; then true; else false; fi'

JSON: {\"output\", \"exit_code\"}")]
struct Run {
    #[command(flatten)]
    prompt: Prompt,
    /// The command; several words are joined by spaces
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Say for Run {
    const NAME: &'static str = "run";

    async fn run(self, context: &Context) -> Result<u8> {
        let mut uboot = self.prompt.reach(context).await?;
        let deadline = self.prompt.timeout.as_duration();
        let done = uboot.run(&self.command.join(" "), deadline).await?;
        if context.output.is_json() {
            let value = json!({ "output": done.text, "exit_code": done.exit_code });
            context.output.value(&value)?;
        } else {
            let mut out = output()?;
            out.write_all(done.text.as_bytes()).await?;
            out.flush().await?;
        }
        Ok(u8::try_from(done.exit_code).unwrap_or(FAILURE))
    }
}

/// Reads or sets a variable of U-Boot's environment
#[derive(Debug, Args)]
struct Environment {
    #[command(subcommand)]
    action: Variable,
}

#[derive(Debug, Subcommand)]
enum Variable {
    /// Prints the value; fails if the variable is not set
    Get {
        #[command(flatten)]
        prompt: Prompt,
        /// The variable
        name: String,
    },
    /// Sets the variable; without a value, removes it
    Set {
        #[command(flatten)]
        prompt: Prompt,
        /// The variable
        name: String,
        /// Its value, one word here: U-Boot gets it quoted
        #[arg(allow_hyphen_values = true)]
        value: Option<String>,
    },
}

impl Say for Environment {
    const NAME: &'static str = "env";

    async fn run(self, context: &Context) -> Result<u8> {
        match self.action {
            Variable::Get { prompt, name } => {
                let value = prompt.reach(context).await?.env(&name).await?;
                match &value {
                    Some(text) => context.output.answer(&value, text)?,
                    None => {
                        context.output.value(&json!(null))?;
                        context.output.note(format_args!("`{name}` is not set"));
                        return Ok(FAILURE);
                    }
                }
                Ok(SUCCESS)
            }
            Variable::Set { prompt, name, value } => {
                prompt.reach(context).await?.set_env(&name, value.as_deref()).await?;
                context.output.done()
            }
        }
    }
}

/// Gets an address by DHCP, without booting from the network, and prints it
#[derive(Debug, Args)]
#[command(after_help = "JSON: {\"ip_address\", \"gateway\", \"netmask\"}")]
struct Dhcp {
    #[command(flatten)]
    prompt: Prompt,
}

impl Say for Dhcp {
    const NAME: &'static str = "dhcp";

    async fn run(self, context: &Context) -> Result<u8> {
        let mut uboot = self.prompt.reach(context).await?;
        let got = uboot.set_up_dhcp(self.prompt.timeout.as_duration()).await?;
        let text = format!("{}/{} by {}", got.ip_address, got.prefix_length(), got.gateway);
        context.output.answer(&serde_json::to_value(got)?, text)?;
        Ok(SUCCESS)
    }
}

/// Restarts the board, stops U-Boot's autoboot, and connects this terminal to its console
#[derive(Debug, Args)]
#[command(
    after_help = "Ctrl-B three times leaves. `{path} serial start-console` does not restart."
)]
struct StartConsole {
    /// How long U-Boot may take to its prompt
    #[arg(long, value_name = "TIME", default_value = "1min")]
    timeout: Span,
}

impl Say for StartConsole {
    const NAME: &'static str = "console";

    async fn run(self, context: &Context) -> Result<u8> {
        serial::require_terminal()?;
        let deadline = self.timeout.as_duration();
        UbootConsole::reboot(context.device(), &context.path, deadline).await?;
        serial::attend(context, &context.child("serial")).await
    }
}
