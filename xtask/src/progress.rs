//! What xtask prints: data on stdout, everything else on stderr, each step with its time.
use std::fmt::Display;
use std::time::{Duration, Instant};

/// Prints one line of data on stdout (for scripts: `IMAGE=$(cargo xtask guest)`).
#[expect(clippy::print_stdout, reason = "the one place that writes data for scripts")]
pub(crate) fn data(line: impl Display) {
    println!("{line}");
}

/// Prints one line for people on stderr.
#[expect(clippy::print_stderr, reason = "the one place that writes for people")]
pub(crate) fn note(line: impl Display) {
    eprintln!("{line}");
}

/// A step under way; [`Step::done`] prints how long it took.
#[derive(Debug)]
pub(crate) struct Step {
    what: String,
    start: Instant,
}

impl Step {
    /// Starts the clock. Nothing is printed before the step ends, unless it is `announced`.
    pub(crate) fn start(what: impl Into<String>) -> Step {
        Step { what: what.into(), start: Instant::now() }
    }

    /// Starts the clock and says so: for steps of more than a few seconds.
    pub(crate) fn announce(what: impl Into<String>) -> Step {
        let step = Step::start(what);
        note(format_args!("  ... {}", step.what));
        step
    }

    /// Prints the step, its time, and what came of it.
    pub(crate) fn done(self, outcome: impl Display) {
        let outcome = outcome.to_string();
        let separator = if outcome.is_empty() { "" } else { ": " };
        note(format_args!(
            "{:>6} {}{separator}{outcome}",
            seconds(self.start.elapsed()),
            self.what
        ));
    }
}

/// A duration as people read it: `0.4s`, `12.3s`, `4m05s`.
pub(crate) fn seconds(duration: Duration) -> String {
    let total = duration.as_secs();
    if total >= 60 {
        format!("{}m{:02}s", total / 60, total % 60)
    } else {
        format!("{:.1}s", duration.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(seconds(Duration::from_millis(449)), "0.4s");
        assert_eq!(seconds(Duration::from_secs(245)), "4m05s");
    }
}
