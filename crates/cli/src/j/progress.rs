//! The progress of a transfer: a bar on a terminal, plain lines at intervals elsewhere, one line at
//! the end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, HumanDuration, ProgressBar, ProgressStyle};
use jumpstarter_driver_core::Progress;
use serde::Serialize;
use serde_json::Value;

use super::output::Output;
use crate::print::line;

/// The time between two plain lines.
const INTERVAL: Duration = Duration::from_secs(3);

/// A transfer under way. Dropping it removes the bar.
#[derive(Debug)]
pub(crate) struct Transfer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    label: String,
    started: Instant,
    output: Output,
    bar: Option<ProgressBar>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    progress: Progress,
    told: Instant,
}

/// The result of a transfer.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Summary {
    /// As the source delivered them; null if another program transferred the image.
    bytes: Option<u64>,
    seconds: f64,
    bytes_per_second: Option<f64>,
}

impl Summary {
    /// The summary with the fields of `about`, an object.
    pub(crate) fn of(self, mut about: Value) -> serde_json::Result<Value> {
        if let (Value::Object(about), Value::Object(summary)) =
            (&mut about, serde_json::to_value(self)?)
        {
            about.extend(summary);
        }
        Ok(about)
    }
}

impl Transfer {
    /// Starts the display of a transfer called `label`.
    pub(crate) fn start(label: impl Into<String>, output: &Output) -> Self {
        let (label, started) = (line(&label.into()).into_owned(), Instant::now());
        let bar = output.environment().err_is_terminal().then(|| {
            // The bar is on standard error; the length is unknown yet.
            let bar = ProgressBar::no_length().with_message(label.clone()).with_style(style(false));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        let progress = Progress::new(0, None);
        let state = Mutex::new(State { progress, told: started });
        Self(Arc::new(Shared { label, started, output: output.clone(), bar, state }))
    }

    /// A callback for the transfer's progress.
    pub(crate) fn observer(&self) -> impl Fn(Progress) + Send + Sync + 'static {
        let shared = self.0.clone();
        move |progress| shared.update(progress)
    }

    /// Ends the display with a line of size, time and rate.
    pub(crate) fn finish(self) -> Summary {
        let shared = &self.0;
        if let Some(bar) = &shared.bar {
            bar.finish_and_clear();
        }
        let seconds = shared.started.elapsed().as_secs_f64();
        let transferred = shared.state().progress.transferred_bytes;
        let bytes = (transferred > 0).then_some(transferred);
        let bytes_per_second = bytes.map(|bytes| bytes as f64 / seconds.max(f64::EPSILON));
        if !shared.output.is_json() {
            let size =
                bytes.map_or_else(String::new, |bytes| format!("{} in ", BinaryBytes(bytes)));
            let rate = bytes_per_second
                .map_or_else(String::new, |rate| format!(" ({}/s)", BinaryBytes(rate as u64)));
            shared.output.note(format!("{}: {size}{seconds:.1} s{rate}", shared.label));
        }
        Summary { bytes, seconds, bytes_per_second }
    }
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, progress: Progress) {
        let mut state = self.state();
        state.progress = progress;
        match (&self.bar, progress.total_bytes) {
            (Some(bar), Some(total)) => {
                if bar.length().is_none() {
                    bar.set_length(total);
                    bar.set_style(style(true));
                }
                bar.set_position(progress.transferred_bytes);
            }
            (Some(bar), None) => bar.set_position(progress.transferred_bytes),
            (None, _) if self.output.is_json() || state.told.elapsed() < INTERVAL => {}
            (None, total) => {
                state.told = Instant::now();
                let seconds = self.started.elapsed();
                let rate = progress.transferred_bytes as f64 / seconds.as_secs_f64();
                let total = total.map_or_else(String::new, |total| {
                    let percent = progress.transferred_bytes.saturating_mul(100) / total.max(1);
                    format!(" of {} ({percent} %)", BinaryBytes(total))
                });
                self.output.note(format!(
                    "{}: {}{total} after {}, {}/s",
                    self.label,
                    BinaryBytes(progress.transferred_bytes),
                    HumanDuration(seconds),
                    BinaryBytes(rate as u64),
                ));
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(with_length: bool) -> ProgressStyle {
    let template = match with_length {
        true => {
            "{msg}  {bar:25}  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left"
        }
        false => "{msg}  {spinner}  {binary_bytes}  {binary_bytes_per_sec}  {elapsed}",
    };
    // A test shows that the templates above are valid.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸ ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;
    use crate::format::Format;

    #[test]
    fn a_summary_of_what_was_seen() {
        let environment = Environment::new(std::io::sink(), std::io::sink(), |_| None);
        let output = Output::new(Format::Json, environment);
        let transfer = Transfer::start("x", &output);
        transfer.observer()(Progress::new(7, Some(7)));
        assert_eq!(transfer.finish().bytes, Some(7));
        assert_eq!(Transfer::start("x", &output).finish().bytes, None);
    }
}
