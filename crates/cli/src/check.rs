//! `jmp check`: checks exporter files.

use std::io::Write;
use std::path::Path;

use jumpstarter_config::ExporterConfig;
use jumpstarter_config::{ConfigFaults, Fault};
use serde_json::{Value, json};

use crate::environment::Environment;
use crate::fault::Fault::Unread;
use crate::fault::{FAILURE, Result, SUCCESS};
use crate::format::Format;
use crate::{hosted, outline, print, serving};

/// Check exporter files: print the device tree of each, or all its faults
///
/// The check opens nothing: it needs neither the hardware nor QEMU. Python is asked, once for each
/// change, whether it has the drivers that it is to host. Faults go to standard error,
/// one line each: FILE:LINE:COLUMN: PATH: what was found and expected; what to write instead. A
/// line with `warning:` marks what may be a mistake or does not work on this machine: an unknown
/// field at the top, a missing file.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  jmp check lab.yaml
  jmp check examples/*.yaml --output json
  generate-lab | jmp check -

Exit code: 0 if no file has faults (warnings do not count), 1 if one has faults, 2 for a wrong command line.")]
pub(crate) struct Arguments {
    /// Exporter files; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// How to print the result; json goes to standard output, faults too
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Format,
    /// Do not ask Python whether it has the drivers that are hosted
    #[arg(long)]
    no_python: bool,
}

pub(crate) fn run(arguments: &Arguments, environment: &Environment) -> Result<u8> {
    let outcomes: Vec<_> =
        arguments.files.iter().map(|file| (file, load(file, arguments))).collect();
    let has_faults = outcomes.iter().any(|(_, outcome)| outcome.is_err());
    match show(outcomes, arguments.output, environment) {
        // The code still says what was found.
        Ok(()) | Err(Unread) if has_faults => Ok(FAILURE),
        shown => shown.map(|()| SUCCESS),
    }
}

fn show(
    outcomes: Vec<(&String, Result<ExporterConfig, ConfigFaults>)>,
    format: Format,
    environment: &Environment,
) -> Result<()> {
    let (mut out, mut err) = (environment.out(), environment.err());
    let mut report = Vec::new();
    for (file, outcome) in outcomes {
        match (format, outcome) {
            (Format::Json, outcome) => report.push(as_json(outcome)),
            (Format::Text, Ok(config)) => {
                err.write_all(config.warnings.to_text(&config.origin).as_bytes())?;
                writeln!(out, "{}: no faults", config.origin)?;
                out.write_all(outline::text(&config.export, environment.width()).as_bytes())?;
            }
            (Format::Text, Err(faults)) => {
                writeln!(err, "{faults}")?;
                if let Some(hint) = serving::missing(Path::new(file)).filter(|_| file != "-") {
                    writeln!(err, "hint: {hint}")?;
                }
            }
        }
    }
    if format == Format::Json {
        writeln!(out, "{}", print::pretty_json(&report)?)?;
    }
    Ok(())
}

fn load(file: &str, arguments: &Arguments) -> Result<ExporterConfig, ConfigFaults> {
    let read = match file {
        "-" => ExporterConfig::read(std::io::stdin().lock(), "standard input"),
        file => ExporterConfig::load(file),
    }?;
    if arguments.no_python { Ok(read) } else { hosted::check(read) }
}

/// Returns the same fields with and without faults.
fn as_json(outcome: Result<ExporterConfig, ConfigFaults>) -> Value {
    match outcome {
        Ok(config) => {
            let warnings: Vec<Value> = config.warnings.iter().map(Fault::to_json).collect();
            json!({
                "file": config.origin, "faults": [], "warnings": warnings,
                "export": outline::json(&config.export),
            })
        }
        Err(faults) => {
            let mut report = faults.to_json();
            report["warnings"] = json!([]);
            report["export"] = Value::Null;
            report
        }
    }
}
