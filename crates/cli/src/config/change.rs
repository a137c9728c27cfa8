//! `jmp config exporter edit` and `delete`.

use std::io::Write;

use jumpstarter_config::ExporterConfig;
use jumpstarter_driver_core::{Error, ResultExt};
use jumpstarter_supervise::{Command, Input, Sink};

use super::{Alias, FileFormat, file_of_user};
use crate::fault::{Result, SUCCESS};
use crate::serving::{self, runtime};

/// Edit an exporter's file with $VISUAL or $EDITOR, then check it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  jmp config exporter edit lab
  EDITOR=nano jmp config exporter edit lab")]
pub(super) struct Edit {
    #[command(flatten)]
    alias: Alias,
}

pub(super) fn edit(arguments: &Edit, err: &mut dyn Write) -> Result<u8> {
    let path = ExporterConfig::find(&arguments.alias.alias)?;
    let named = |variable| std::env::var(variable).ok().filter(|editor| !editor.trim().is_empty());
    let editor = named("VISUAL").or_else(|| named("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    // `$VISUAL` may hold arguments: `code --wait`. The shell splits them, and gets the path
    // unchanged.
    let command = Command::new("/bin/sh")
        .args(["-c", &format!("{editor} \"$1\""), "sh"])
        .arg(&path)
        .in_our_group()
        .stdin(Input::Inherit)
        .stdout(Sink::Inherit)
        .stderr(Sink::Inherit);
    let running = async {
        Ok(command.spawn().await.map_err(|error| Error::internal(error.to_string()))?.wait().await)
    };
    let status: jumpstarter_driver_core::Result<_> = runtime()?.block_on(running);
    let status = status.with_context(|| format!("running the editor `{editor}`"))?;
    if !status.success() {
        let error = Error::failed_precondition(format!("the editor `{editor}` failed: {status}"));
        return Err(error.with_hint("set EDITOR to an editor that is installed").into());
    }
    serving::load(&path, err).map(|_| SUCCESS)
}

/// Delete an exporter's file
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  jmp config exporter delete lab")]
pub(super) struct Delete {
    #[command(flatten)]
    alias: Alias,
    /// How to print what was deleted
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: FileFormat,
}

impl Delete {
    pub(super) fn is_json(&self) -> bool {
        self.output == FileFormat::Json
    }
}

pub(super) fn delete(arguments: &Delete, out: &mut dyn Write, err: &mut dyn Write) -> Result<u8> {
    let alias = &arguments.alias.alias;
    let found = ExporterConfig::find(alias)?;
    let path = file_of_user(alias)?;
    if found != path {
        let message = format!("the exporter `{alias}` is everybody's: {}", found.display());
        let error = Error::permission_denied(message);
        return Err(error.with_hint("delete that file by hand, with the rights to do so").into());
    }
    std::fs::remove_file(&path).with_context(|| format!("deleting {}", path.display()))?;
    arguments.output.print("deleted", alias, &path, out)?;
    if let Ok(system) = ExporterConfig::find(alias) {
        writeln!(err, "note: `{alias}` is now {}", system.display())?;
    }
    Ok(SUCCESS)
}
