//! Tables of medians, side by side, with their targets.

use std::time::Duration;

use serde_json::{Value, json};

/// What has to hold between the medians.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// Ours takes at most this much longer.
    Within(Duration),
    /// Ours has at least this part of the other's throughput.
    AtLeast(f64),
    /// Nothing: shown for scale.
    None,
}

/// One comparison.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) other: String,
    pub(crate) ours: Vec<Duration>,
    pub(crate) theirs: Vec<Duration>,
    pub(crate) target: Target,
}

impl Row {
    /// Whether the target is met.
    pub(crate) fn passes(&self) -> bool {
        let (ours, theirs) = (median(&self.ours), median(&self.theirs));
        match self.target {
            Target::Within(more) => ours <= theirs + more,
            Target::AtLeast(part) => self.ratio() >= part,
            Target::None => true,
        }
    }

    /// Throughput of ours, in parts of the other's.
    fn ratio(&self) -> f64 {
        median(&self.theirs).as_secs_f64() / median(&self.ours).as_secs_f64()
    }

    pub(crate) fn json(&self) -> Value {
        let seconds = |times: &[Duration]| times.iter().map(Duration::as_secs_f64).collect::<Vec<_>>();
        json!({
            "what": self.what,
            "beside": self.other,
            "ours_seconds": median(&self.ours).as_secs_f64(),
            "theirs_seconds": median(&self.theirs).as_secs_f64(),
            "ratio": self.ratio(),
            "passes": self.passes(),
            "ours_turns": seconds(&self.ours),
            "theirs_turns": seconds(&self.theirs),
        })
    }

    fn cells(&self) -> [String; 6] {
        let (ours, theirs) = (median(&self.ours), median(&self.theirs));
        let difference = format!("{:+.1} ms", (ours.as_secs_f64() - theirs.as_secs_f64()) * 1000.0);
        let (compared, target) = match self.target {
            Target::Within(more) => (difference, format!("within {} ms", more.as_millis())),
            Target::AtLeast(part) => {
                (format!("{:.0} %", self.ratio() * 100.0), format!("at least {:.0} %", part * 100.0))
            }
            Target::None => (difference, "for scale".to_owned()),
        };
        let verdict = match (self.target, self.passes()) {
            (Target::None, _) => "",
            (_, true) => "pass",
            (_, false) => "FAIL",
        };
        let versus = format!("{} {}", seconds(theirs), self.other);
        [self.what.clone(), seconds(ours), versus, compared, target, verdict.to_owned()]
    }
}

fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{:.1} ms", time.as_secs_f64() * 1000.0),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

/// The median; the mean of the two in the middle for an even number. Zero of none.
pub(crate) fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    match sorted.len() {
        0 => Duration::ZERO,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => (sorted[even / 2 - 1] + sorted[even / 2]) / 2,
    }
}

/// The table as text.
pub(crate) fn show(title: &str, notes: &[&str], rows: &[Row]) -> String {
    let head = ["", "ours", "beside", "ratio", "target", ""].map(str::to_owned);
    let cells: Vec<[String; 6]> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
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

    fn row(ours: u64, theirs: u64, target: Target) -> Row {
        Row { what: "x".into(), other: "y".into(), ours: vec![ms(ours)], theirs: vec![ms(theirs)], target }
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[ms(5), ms(1), ms(100)]), ms(5));
        assert_eq!(median(&[ms(5), ms(1), ms(100), ms(7)]), ms(6));
    }

    #[test]
    fn targets_fail_and_pass() {
        assert!(row(110, 100, Target::Within(ms(20))).passes());
        assert!(!row(130, 100, Target::Within(ms(20))).passes());
        assert!(row(110, 100, Target::AtLeast(0.9)).passes());
        assert!(!row(120, 100, Target::AtLeast(0.9)).passes());
        let shown = show("T", &["n"], &[row(120, 100, Target::AtLeast(0.9))]);
        assert!(shown.contains("83 %") && shown.contains("FAIL"), "{shown}");
    }
}
