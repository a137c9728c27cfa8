//! `script`: a conversation with the console, from a file.

use std::path::PathBuf;

use clap::Args;
use jumpstarter_config::read_yaml;
use jumpstarter_console::{Script, SerialExt};
use jumpstarter_driver_core::{Error, ResultExt, Serial, Span};
use jumpstarter_text::line;
use serde_json::json;

use crate::fault::{Result, SUCCESS};
use crate::j::context::Context;
use crate::j::verb::Say;

/// Holds a conversation with the console: sends, and waits for text
///
/// The file is a YAML list of steps. Prints the named groups of the regular expressions that
/// matched. The step that fails is named in the error, with what was seen last.
#[derive(Debug, Args)]
#[command(after_help = "\
A step has one of
  expect: TEXT | {regex: …} | a list of these, each with the steps that follow on it (then:)
  send: TEXT    line: TEXT and the Enter key    key: ctrl-c, enter, escape, up, …
  secret: a line that no error shows: TEXT | {env: NAME} | {file: PATH}    fail: MESSAGE
and may have within: TIME (default: a minute). An expect presses a key meanwhile: press: enter,
every: TIME.

Example:
  $ cat version.yaml
  - expect: \"=> \"
    press: ctrl-c
  - line: version
  - expect: {regex: 'U-Boot (?<version>\\S+)'}
  $ {path} script version.yaml
  version=2023.01

JSON: {\"captures\", \"transcript\"}")]
pub(super) struct RunScript {
    /// The file with the steps
    file: PathBuf,
    /// How long the whole may take
    #[arg(long, value_name = "TIME")]
    timeout: Option<Span>,
    /// Write all that the console says meanwhile to this file, also if a step fails
    #[arg(short, long, value_name = "FILE")]
    transcript: Option<PathBuf>,
}

impl Say for RunScript {
    const NAME: &'static str = "script";

    async fn run(self, context: &Context) -> Result<u8> {
        let reading = || format!("reading {}", self.file.display());
        let text = tokio::fs::read_to_string(&self.file).await.map_err(Error::from);
        let text = text.with_context(reading)?;
        let script: Script =
            read_yaml(&text, &self.file.display().to_string()).map_err(Error::from)?;
        let script = match self.timeout {
            Some(limit) => script.deadline(limit.as_duration()),
            None => script,
        };

        let mut console = context.get::<dyn Serial>()?.expect().await?;
        let done = script.run(&mut console).await;
        if let Some(file) = &self.transcript {
            let writing = || format!("writing {}", file.display());
            let written = tokio::fs::write(file, console.transcript()).await;
            written.map_err(Error::from).with_context(writing)?;
        }
        let done = done?;
        let captures = done.captures.iter();
        let lines: Vec<String> =
            captures.map(|(name, text)| format!("{name}={}", line(text))).collect();
        let value = json!({"captures": done.captures, "transcript": console.transcript_text()});
        if context.output.is_json() || !lines.is_empty() {
            context.output.answer_lines(&value, lines.join("\n"))?;
        }
        Ok(SUCCESS)
    }
}
