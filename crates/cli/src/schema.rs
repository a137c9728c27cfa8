//! `jmp schema`: the JSON schema of exporter files.

use std::io::Write;

use jumpstarter_driver_core::Registry;

use crate::fault::{Result, SUCCESS};
use crate::print;

/// Print the JSON schema of exporter files, with the configuration of every driver in this program
///
/// Editors complete and check with it (draft 2020-12).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  jmp schema > exporter.schema.json

An editor with the YAML language server takes it from a file's first line:
  # yaml-language-server: $schema=exporter.schema.json")]
pub(crate) struct Arguments {}

pub(crate) fn run(_: &Arguments, out: &mut dyn Write) -> Result<u8> {
    let schema = jumpstarter_config::schema(Registry::linked())?;
    writeln!(out, "{}", print::pretty_json(&schema)?)?;
    Ok(SUCCESS)
}
