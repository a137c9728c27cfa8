//! What the demo prints: a line for each step with its time, or one JSON object at the end.

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use clap::ValueEnum;
use jumpstarter_driver_core::{ByteSize, Progress};
use serde_json::{Value, json};

/// How to print.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object
    Json,
}

/// What happened so far.
#[derive(Debug)]
pub(crate) struct Report {
    format: Format,
    /// Whether standard error is a terminal, on which the step under way is shown.
    live: bool,
    started: Instant,
    step: Option<(&'static str, Instant)>,
    steps: Vec<Value>,
}

impl Report {
    pub(crate) fn new(format: Format, live: bool) -> Self {
        Self { format, live, started: Instant::now(), step: None, steps: Vec::new() }
    }

    /// A step begins.
    pub(crate) fn begin(&mut self, step: &'static str) {
        self.step = Some((step, Instant::now()));
        if self.live {
            show(&format!("  {step:<9} ..."));
        }
    }

    /// For images under way; called from any thread.
    pub(crate) fn observer(&self, step: &'static str) -> impl Fn(Progress) + Send + Sync + 'static {
        let live = self.live;
        move |progress: Progress| {
            if !live {
                return;
            }
            let done = ByteSize::bytes(progress.transferred_bytes);
            match progress.total_bytes {
                Some(total) if total > 0 => {
                    let percent = progress.transferred_bytes.saturating_mul(100) / total;
                    show(&format!(
                        "  {step:<9} {percent:>3} %  {done} of {}",
                        ByteSize::bytes(total)
                    ));
                }
                _ => show(&format!("  {step:<9} {done}")),
            }
        }
    }

    /// The step is done; `detail` says what came of it.
    pub(crate) fn done(&mut self, detail: &str) {
        let Some((step, started)) = self.step.take() else { return };
        let seconds = started.elapsed().as_secs_f64();
        self.steps
            .push(json!({"step": step, "ok": true, "seconds": rounded(seconds), "detail": detail}));
        self.line(&format!("✓ {step:<9} {detail:<62} {seconds:>7.2} s"));
    }

    /// The step is left out, for this reason.
    pub(crate) fn skip(&mut self, step: &'static str, why: &str) {
        self.steps.push(json!({"step": step, "ok": null, "seconds": 0, "detail": why}));
        self.line(&format!("- {step:<9} {why}"));
    }

    /// Everything went well.
    pub(crate) fn succeeded(mut self) -> ExitCode {
        let seconds = self.started.elapsed().as_secs_f64();
        self.line(&format!("✓ {:<72} {seconds:>7.2} s", "total; nothing is left behind"));
        self.finish(json!({"ok": true}));
        ExitCode::SUCCESS
    }

    /// A step failed, for this reason; the console's last lines may say more.
    pub(crate) fn failed(mut self, why: &str, console: Option<&str>) -> ExitCode {
        let (step, started) = self.step.take().unwrap_or(("demo", self.started));
        let seconds = started.elapsed().as_secs_f64();
        self.steps
            .push(json!({"step": step, "ok": false, "seconds": rounded(seconds), "detail": why}));
        self.line(&format!("✗ {step:<9} {:<62} {seconds:>7.2} s", "failed"));
        // Reports of what waited on the console show it already.
        let console =
            console.filter(|lines| !lines.trim().is_empty() && !why.contains("seen last"));
        self.note(&format!("error: {step}: {why}"));
        if let Some(lines) = console {
            self.note(&format!("the console's last lines:\n{lines}"));
        }
        self.finish(json!({"ok": false, "failed": step, "error": why, "console": console}));
        ExitCode::FAILURE
    }

    /// Ctrl-C.
    pub(crate) fn interrupted(&mut self) {
        let step = self.step.take().map_or("demo", |(step, _)| step);
        self.steps.push(json!({"step": step, "ok": false, "detail": "interrupted"}));
        self.line(&format!("✗ {step:<9} interrupted; closing"));
    }

    /// Closed after Ctrl-C, or why not.
    pub(crate) fn closed_after_interrupt(mut self, error: Option<&str>) {
        match error {
            None => self.line("  closed; nothing is left behind"),
            Some(error) => self.note(&format!("error: closing: {error}")),
        }
        self.finish(json!({"ok": false, "interrupted": true, "error": error}));
    }

    #[expect(clippy::print_stdout, reason = "the lines are what the program is for")]
    fn line(&mut self, line: &str) {
        if self.live {
            show("");
        }
        if self.format == Format::Text {
            println!("{}", jumpstarter_text::line(line));
        }
    }

    #[expect(clippy::print_stderr, reason = "errors are for people")]
    fn note(&self, text: &str) {
        eprintln!("{}", jumpstarter_text::block(text));
    }

    #[expect(clippy::print_stdout, reason = "data is what was asked for")]
    fn finish(self, mut end: Value) {
        if self.format == Format::Json {
            end["seconds"] = rounded(self.started.elapsed().as_secs_f64());
            end["steps"] = Value::Array(self.steps);
            println!("{}", jumpstarter_text::json(&format!("{end:#}")));
        }
    }
}

fn rounded(seconds: f64) -> Value {
    json!((seconds * 1000.0).round() / 1000.0)
}

/// Puts `text` in place of the terminal's current line. What cannot be shown is not worth an error.
fn show(text: &str) {
    let mut terminal = std::io::stderr().lock();
    drop(write!(terminal, "\r\x1b[K{text}").and_then(|()| terminal.flush()));
}
