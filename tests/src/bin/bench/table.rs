//! Tables of medians, side by side, with their targets.

use std::time::Duration;

use serde_json::{Value, json};

use crate::unit::Unit;

/// What has to hold for the medians.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// Ours takes at most this much longer than the other.
    Within(Duration),
    /// Ours has at least this part of the other's speed.
    AtLeast(f64),
    /// Ours alone is so good: at most this time or size, at least this rate, in the row's unit.
    Absolute(f64),
    /// Nothing: shown for scale.
    None,
}

/// One comparison, or, where there is nothing to compare with, one figure.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) what: String,
    /// What ours is compared with.
    pub(crate) other: String,
    pub(crate) unit: Unit,
    /// Each turn's figure, in the unit.
    pub(crate) ours: Vec<f64>,
    /// Likewise; empty where the other is not installed.
    pub(crate) theirs: Vec<f64>,
    pub(crate) target: Target,
}

impl Row {
    /// A comparison of times.
    pub(crate) fn of_times(
        what: impl Into<String>,
        other: impl Into<String>,
        [ours, theirs]: [Vec<Duration>; 2],
        target: Target,
    ) -> Self {
        let seconds = |times: Vec<Duration>| times.iter().map(Duration::as_secs_f64).collect();
        let (ours, theirs) = (seconds(ours), seconds(theirs));
        Self { what: what.into(), other: other.into(), unit: Unit::Time, ours, theirs, target }
    }

    /// Whether the target is met. A comparison with nothing is no reason to fail.
    pub(crate) fn passes(&self) -> bool {
        let (ours, theirs) = (median(&self.ours), median(&self.theirs));
        match (self.target, self.unit.more_is_better()) {
            (Target::Within(_) | Target::AtLeast(_), _) if self.theirs.is_empty() => true,
            (Target::Within(more), _) => ours <= theirs + more.as_secs_f64(),
            (Target::AtLeast(part), _) => self.ratio() >= part,
            (Target::Absolute(least), true) => ours >= least,
            (Target::Absolute(most), false) => ours <= most,
            (Target::None, _) => true,
        }
    }

    /// How good ours is, in parts of the other: more is better, whatever the unit.
    fn ratio(&self) -> f64 {
        let (ours, theirs) = (median(&self.ours), median(&self.theirs));
        if self.unit.more_is_better() { ours / theirs } else { theirs / ours }
    }

    pub(crate) fn json(&self) -> Value {
        let compared = !self.theirs.is_empty();
        json!({
            "what": self.what,
            "beside": self.other,
            "unit": self.unit.name(),
            "ours": median(&self.ours),
            "theirs": compared.then(|| median(&self.theirs)),
            "ratio": compared.then(|| self.ratio()),
            "passes": self.passes(),
            "ours_turns": self.ours,
            "theirs_turns": self.theirs,
        })
    }

    fn cells(&self) -> [String; 6] {
        let (ours, theirs) = (median(&self.ours), median(&self.theirs));
        let difference = || match ours.max(theirs) < 0.001 {
            true => format!("{:+.1} µs", (ours - theirs) * 1_000_000.0),
            false => format!("{:+.1} ms", (ours - theirs) * 1000.0),
        };
        let compared = match self.target {
            _ if self.theirs.is_empty() => String::new(),
            Target::Within(_) => difference(),
            Target::None if self.unit == Unit::Time => difference(),
            Target::AtLeast(_) => format!("{:.0} %", self.ratio() * 100.0),
            Target::Absolute(_) | Target::None => format!("{:.1} ×", self.ratio()),
        };
        let target = match self.target {
            Target::Within(more) => {
                format!("within {more:?}").replace("ms", " ms").replace("µs", " µs")
            }
            Target::AtLeast(part) => format!("at least {:.0} %", part * 100.0),
            Target::Absolute(limit) => self.unit.limit(limit),
            Target::None => "for scale".to_owned(),
        };
        let verdict = match (self.target, self.passes()) {
            (Target::None, _) => "",
            (Target::Within(_) | Target::AtLeast(_), _) if self.theirs.is_empty() => "left out",
            (_, true) => "pass",
            (_, false) => "FAIL",
        };
        let versus = match self.theirs.is_empty() {
            true => format!("no {}", self.other),
            false => format!("{} {}", self.unit.show(theirs), self.other),
        };
        [self.what.clone(), self.unit.show(ours), versus, compared, target, verdict.to_owned()]
    }
}

/// The median; the mean of the two in the middle for an even number. Zero of none.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => (sorted[even / 2 - 1] + sorted[even / 2]) / 2.0,
    }
}

/// The table as text.
pub(crate) fn show(title: &str, notes: &[&str], rows: &[Row]) -> String {
    let head = ["", "ours", "beside", "ratio", "target", ""].map(str::to_owned);
    let cells: Vec<[String; 6]> =
        std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let width =
        |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = format!("{title}\n\n");
    for row in &cells {
        let padded: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text += &format!("  {}\n", padded.join("  ").trim_end());
    }
    text += "\n";
    for note in notes {
        text += &format!("  - {note}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn times(ours: u64, theirs: u64, target: Target) -> Row {
        Row::of_times("x", "y", [vec![ms(ours)], vec![ms(theirs)]], target)
    }

    fn row(unit: Unit, ours: f64, theirs: &[f64], target: Target) -> Row {
        let (what, other) = ("x".to_owned(), "y".to_owned());
        Row { what, other, unit, ours: vec![ours], theirs: theirs.to_vec(), target }
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[5.0, 1.0, 100.0]), 5.0);
        assert_eq!(median(&[5.0, 1.0, 100.0, 7.0]), 6.0);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn targets_for_times_fail_and_pass() {
        assert!(times(110, 100, Target::Within(ms(20))).passes());
        assert!(!times(130, 100, Target::Within(ms(20))).passes());
        assert!(times(110, 100, Target::AtLeast(0.9)).passes());
        assert!(!times(120, 100, Target::AtLeast(0.9)).passes());
        assert!(times(20, 1, Target::Absolute(0.02)).passes());
        assert!(!times(21, 1000, Target::Absolute(0.02)).passes());
    }

    #[test]
    fn more_is_better_for_rates_and_less_for_sizes() {
        assert!(row(Unit::Calls, 8000.0, &[900.0], Target::Absolute(8000.0)).passes());
        assert!(!row(Unit::Calls, 7999.0, &[900.0], Target::Absolute(8000.0)).passes());
        assert!(row(Unit::Throughput, 80.0, &[100.0], Target::AtLeast(0.8)).passes());
        assert!(!row(Unit::Throughput, 79.0, &[100.0], Target::AtLeast(0.8)).passes());
        assert!(row(Unit::Size, 20.0, &[100.0], Target::Absolute(20.0)).passes());
        assert!(!row(Unit::Size, 21.0, &[100.0], Target::Absolute(20.0)).passes());
        assert_eq!(row(Unit::Size, 20.0, &[100.0], Target::None).ratio(), 5.0);
        assert_eq!(row(Unit::Calls, 100.0, &[20.0], Target::None).ratio(), 5.0);
    }

    #[test]
    fn what_is_not_there_fails_nothing_but_an_absolute_target_still_can() {
        assert!(row(Unit::Throughput, 1.0, &[], Target::AtLeast(0.8)).passes());
        assert!(!row(Unit::Throughput, 1.0, &[], Target::Absolute(2.0)).passes());
        assert_eq!(row(Unit::Size, 1.0, &[], Target::None).json()["theirs"], Value::Null);
    }

    #[test]
    fn tables_have_columns() {
        let mib = f64::from(1 << 20);
        let rows = [
            times(120, 100, Target::AtLeast(0.9)),
            times(36, 35, Target::None),
            row(Unit::Calls, 12_345.6, &[1000.0], Target::Absolute(8000.0)),
            row(Unit::Throughput, 500.0 * mib, &[100.0 * mib], Target::Absolute(600.0 * mib)),
            row(Unit::Size, 19.5 * mib, &[], Target::Absolute(20.0 * mib)),
            row(Unit::Throughput, 500.0 * mib, &[], Target::AtLeast(0.8)),
        ];
        insta::assert_snapshot!(show("T", &["n"], &rows), @r"
        T

             ours       beside       ratio    target
          x  120.0 ms   100.0 ms y   83 %     at least 90 %       FAIL
          x  36.0 ms    35.0 ms y    +1.0 ms  for scale
          x  12,346 /s  1,000 /s y   12.3 ×   at least 8,000 /s   pass
          x  500 MiB/s  100 MiB/s y  5.0 ×    at least 600 MiB/s  FAIL
          x  19.5 MiB   no y                  at most 20 MiB      pass
          x  500 MiB/s  no y                  at least 80 %       left out

          - n
        ");
    }
}
