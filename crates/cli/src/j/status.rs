//! `j status` and `j reset`.

use jumpstarter_client::ExporterState;
use serde_json::json;

use super::context::Context;
use super::verb::Say;
use crate::fault::{Result, SUCCESS};

/// Shows the exporter's state and address
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  j status

JSON: {\"state\", \"message\", \"name\", \"address\"}; state is one of unspecified, offline, available,
before-lease-hook, ready, after-lease-hook, before-lease-hook-failed and after-lease-hook-failed, or in-process
without an exporter")]
pub(crate) struct Status {}

impl Say for Status {
    const NAME: &'static str = "status";

    async fn run(self, context: &Context) -> Result<u8> {
        let Some(exporter) = &context.opened.exporter else {
            let value =
                json!({"state": "in-process", "message": "", "name": null, "address": null});
            context.output.answer(&value, "in this process, without an exporter")?;
            return Ok(SUCCESS);
        };
        let status = exporter.status().await?;
        let state = kebab(&format!("{:?}", status.state));
        let (name, address) = (exporter.name(), exporter.address().to_string());
        let value =
            json!({"state": state, "message": status.message, "name": name, "address": address});
        let name = name.map_or_else(String::new, |name| format!("{name} "));
        // The message of a ready exporter adds nothing.
        let message = Some(status.message)
            .filter(|text| !text.is_empty() && status.state != ExporterState::Ready);
        let message = message.map_or_else(String::new, |text| format!(": {text}"));
        context.output.answer(&value, format!("{name}at {address}: {state}{message}"))?;
        Ok(SUCCESS)
    }
}

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

/// Resets every driver of the device
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  j reset")]
pub(crate) struct Reset {}

impl Say for Reset {
    const NAME: &'static str = "reset";

    async fn run(self, context: &Context) -> Result<u8> {
        context.opened.device.reset().await?;
        context.output.done()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn kebab() {
        assert_eq!(super::kebab("BeforeLeaseHook"), "before-lease-hook");
    }
}
