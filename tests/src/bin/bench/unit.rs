//! What a figure is, and how people read it.

/// Bytes in a MiB.
const MIB: f64 = 1024.0 * 1024.0;

/// The unit of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Seconds.
    Time,
    /// Calls a second.
    Calls,
    /// Bytes a second.
    Throughput,
    /// Bytes.
    Size,
}

impl Unit {
    /// Whether the larger figure is the better one.
    pub(crate) fn more_is_better(self) -> bool {
        matches!(self, Self::Calls | Self::Throughput)
    }

    /// The unit's name, for programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Time => "s",
            Self::Calls => "calls/s",
            Self::Throughput => "B/s",
            Self::Size => "B",
        }
    }

    /// A figure with its unit.
    pub(crate) fn show(self, figure: f64) -> String {
        self.with_digits(figure, 1)
    }

    /// What a figure must not miss.
    pub(crate) fn limit(self, figure: f64) -> String {
        let side = if self.more_is_better() { "at least" } else { "at most" };
        format!("{side} {}", self.with_digits(figure, 0))
    }

    fn with_digits(self, figure: f64, digits: usize) -> String {
        match self {
            Self::Time if figure < 0.001 => format!("{:.digits$} µs", figure * 1_000_000.0),
            Self::Time if figure < 1.0 => format!("{:.digits$} ms", figure * 1000.0),
            Self::Time => format!("{figure:.2} s"),
            Self::Calls => format!("{} /s", thousands(figure)),
            Self::Throughput => format!("{:.0} MiB/s", figure / MIB),
            Self::Size => format!("{:.digits$} MiB", figure / MIB),
        }
    }
}

/// A rounded number, its digits in groups of three.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        assert_eq!(Unit::Time.show(0.000_012_34), "12.3 µs");
        assert_eq!(Unit::Time.show(0.0123), "12.3 ms");
        assert_eq!(Unit::Time.show(1.5), "1.50 s");
        assert_eq!(Unit::Calls.show(1_234_567.0), "1,234,567 /s");
        assert_eq!(Unit::Calls.show(999.6), "1,000 /s");
        assert_eq!(Unit::Calls.show(12.0), "12 /s");
        assert_eq!(Unit::Throughput.show(700.4 * MIB), "700 MiB/s");
        assert_eq!(Unit::Size.show(19.96 * MIB), "20.0 MiB");
    }

    #[test]
    fn limits_say_on_which_side() {
        assert_eq!(Unit::Time.limit(0.02), "at most 20 ms");
        assert_eq!(Unit::Calls.limit(20_000.0), "at least 20,000 /s");
        assert_eq!(Unit::Throughput.limit(700.0 * MIB), "at least 700 MiB/s");
        assert_eq!(Unit::Size.limit(40.0 * MIB), "at most 40 MiB");
    }
}
