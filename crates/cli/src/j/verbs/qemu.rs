//! Verbs of QEMU machines that other exporters have too.

use anyhow::Result;
use clap::{Arg, ArgMatches, Command};
use jumpstarter_driver_core::{ByteSize, Error};
use serde_json::json;

use super::Verb;
use crate::j::context::Context;
use crate::j::fault::Fault;

pub(super) static VERBS: &[Verb] = &[Verb {
    name: "resize",
    command: |command| {
        command
            .about("Sets the size of the root disk or of the memory, from the next power-on")
            .subcommand_required(true)
            .arg_required_else_help(true)
            .disable_help_subcommand(true)
            .subcommand(sized(
                "disk",
                "Sets the size of the root disk; what the guest wrote is never cut off",
            ))
            .subcommand(sized("memory", "Sets the size of the memory"))
            .after_help("Examples:\n  {path} resize disk 20G\n  {path} resize memory 2G")
    },
    run: |context, matches| Box::pin(resize(context, matches)),
}];

fn sized(name: &'static str, about: &'static str) -> Command {
    Command::new(name).about(about).arg(
        Arg::new("size")
            .value_name("SIZE")
            .required(true)
            .help("A size with its unit, such as 512M or 20G"),
    )
}

async fn resize(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let (what, matches) = matches.subcommand().unwrap_or(("disk", matches));
    let size: String = matches.get_one("size").cloned().unwrap_or_default();
    let parsed = with_unit(&size).map_err(Fault::Usage)?;
    // As text, which every exporter takes; drivers in Python take no numbers.
    context.device.call(&context.path, &format!("set_{what}_size"), vec![json!(size)]).await?;
    if !context.output.is_json() {
        context.output.note(format!("{what}: {parsed} from the next power-on"));
    }
    context.output.done()
}

/// A size that says its unit: exporters take a bare number for bytes, or for MiB.
fn with_unit(text: &str) -> jumpstarter_driver_core::Result<ByteSize> {
    let parsed: ByteSize = text.parse()?;
    if text.trim().ends_with(|last: char| last.is_ascii_digit() || last == '.') {
        let number = text.trim();
        return Err(Error::invalid_argument(format!("`{number}` is a size without its unit"))
            .with_hint(format!("write `{number}M` or `{number}G`")));
    }
    Ok(parsed)
}
