//! `jmp version`: this program's version.

use std::io::Write;

use clap::ValueEnum;
use serde_json::json;

use crate::fault::{Result, SUCCESS};
use crate::format::Format;
use crate::print;

/// Print this program's version
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[arg(short = 'o', long, value_enum, default_value = "text", value_name = "FORM")]
    output: Form,
}

/// The form of the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// With the program's path
    Text,
    /// For programs
    Json,
    /// For programs
    Yaml,
    /// The version alone
    Name,
}

impl Arguments {
    /// The format of the command's errors.
    pub(crate) fn format(&self) -> Format {
        if self.output == Form::Json { Format::Json } else { Format::Text }
    }
}

pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<u8> {
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    // The first key is that of Jumpstarter's other implementation.
    let value = || json!({"gitVersion": VERSION, "implementation": "rust"});
    let text = match arguments.output {
        Form::Json => print::pretty_json(&value())? + "\n",
        Form::Yaml => print::yaml(&value())?,
        Form::Name => format!("v{VERSION}\n"),
        Form::Text => {
            let program = std::env::current_exe().unwrap_or_default();
            let program = print::line(&program.to_string_lossy()).into_owned();
            format!("Jumpstarter v{VERSION} from {program} (Rust)\n")
        }
    };
    out.write_all(text.as_bytes())?;
    Ok(SUCCESS)
}
