//! `jmp schema`: the JSON schema of exporter files.

use std::io::Write;

use jumpstarter_driver_core::Registry;

use crate::fault::{Result, SUCCESS};
use crate::print;

/// Print the JSON schema of exporter files, with the configuration of every driver in this program
///
/// For editors that complete and validate (draft 2020-12).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  jmp schema > exporter.schema.json

The YAML language server of an editor reads the schema that a file's first line names:
  # yaml-language-server: $schema=exporter.schema.json")]
pub(crate) struct Arguments {}

pub(crate) fn run(_: &Arguments, out: &mut dyn Write) -> Result<u8> {
    let schema = jumpstarter_config::schema(Registry::linked())?;
    writeln!(out, "{}", print::pretty_json(&schema)?)?;
    Ok(SUCCESS)
}
