//! The commands that every device has.

use anyhow::Result;
use clap::Arg;
use jumpstarter_client::ExporterState;
use serde_json::json;

use super::context::Context;
use super::fault::SUCCESS;
use super::verbs::Verb;
use super::{call, complete, log, outline};

/// In the order of the help.
pub(crate) static ALL: &[Verb] = &[
    outline::TREE,
    call::CALL,
    call::STREAM,
    log::LOG,
    Verb {
        name: "status",
        command: |command| {
            command.about("Says what the exporter is doing, and where it is").after_help(
                "\
Example:
  j status

JSON: {\"state\", \"message\", \"name\", \"address\"}; state is one of unspecified, offline, available,
before-lease-hook, ready, after-lease-hook, before-lease-hook-failed and after-lease-hook-failed, or in-process
where there is no exporter",
            )
        },
        run: |context, _| Box::pin(status(context)),
    },
    Verb {
        name: "reset",
        command: |command| {
            command.about("Resets every driver of the device").after_help("Example:\n  j reset")
        },
        run: |context, _| Box::pin(reset(context)),
    },
    Verb {
        name: COMPLETIONS,
        command: |command| {
            command
                .about("Prints a script by which a shell completes the device's paths and verbs")
                .arg(Arg::new("shell").value_name("SHELL").required(true).value_parser(complete::SHELLS))
                .after_help(
                    "\
The shell asks the exporter at JUMPSTARTER_HOST when TAB is pressed; a device is never opened for that.

Examples:
  source <(j completions bash)            in ~/.bashrc
  source <(j completions zsh)             in ~/.zshrc
  j completions fish | source             in ~/.config/fish/config.fish",
                )
        },
        run: |_, matches| Box::pin(async { complete::registration(matches) }),
    },
];

/// Needs no device.
pub(crate) const COMPLETIONS: &str = "completions";

/// `BeforeLeaseHook` becomes `before-lease-hook`.
fn kebab(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

async fn status(context: &Context) -> Result<u8> {
    let Some(exporter) = &context.exporter else {
        let value = json!({"state": "in-process", "message": "", "name": null, "address": null});
        context.output.answer(&value, "in this process, without an exporter")?;
        return Ok(SUCCESS);
    };
    let status = exporter.status().await?;
    let (state, address) = (kebab(&format!("{:?}", status.state)), exporter.address().to_string());
    let name = exporter.name();
    let value =
        json!({"state": state, "message": status.message, "name": name, "address": address});
    let name = name.map_or_else(String::new, |name| format!("{name} "));
    // Of a ready exporter the message says no more than that.
    let message = Some(status.message)
        .filter(|text| !text.is_empty() && status.state != ExporterState::Ready);
    let message = message.map_or_else(String::new, |text| format!(": {text}"));
    context.output.answer(&value, format!("{name}at {address}: {state}{message}"))?;
    Ok(SUCCESS)
}

async fn reset(context: &Context) -> Result<u8> {
    context.device.reset().await?;
    context.output.done()
}

#[cfg(test)]
mod tests {
    #[test]
    fn kebab() {
        assert_eq!(super::kebab("BeforeLeaseHook"), "before-lease-hook");
    }
}
