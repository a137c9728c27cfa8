//! Why a command waits for a device: a line that is redrawn on a terminal, a line for each reason
//! elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::environment::Environment;
use crate::print;

/// The wait for a device. Dropping it removes the line from the terminal.
pub(super) struct Waiting<'a> {
    environment: &'a Environment,
    bar: Option<ProgressBar>,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(environment: &'a Environment) -> Self {
        Self { environment, bar: None }
    }

    /// Shows a reason.
    pub(super) fn for_device(&mut self, why: &str) {
        let why = print::line(why);
        if !self.environment.err_is_animated() {
            self.environment.report_beside(format_args!("waiting for a device: {why}"));
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner().with_style(style());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        bar.set_message(why.into_owned());
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style() -> ProgressStyle {
    // A test shows that the template is valid.
    ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

const TEMPLATE: &str = "{spinner} waiting for a device ({elapsed}): {wide_msg}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_a_form() {
        ProgressStyle::with_template(TEMPLATE).unwrap();
    }
}
