//! What was found: broken promises, by kind, action and fault.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use jumpstarter_driver_core::prelude::*;
use serde_json::json;

use crate::action::Action;
use crate::fault::Fault;

/// A kind of broken promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A process outlived its owner.
    Orphan,
    /// A command succeeded, and what it did is not there.
    FalseSuccess,
    /// A command failed, and the image from before is damaged.
    LostImage,
    /// Something did not end in time.
    Hang,
    /// The device did not work again afterwards.
    Unusable,
    /// A file stayed that nobody owns.
    LeftFile,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Orphan,
        Self::FalseSuccess,
        Self::LostImage,
        Self::Hang,
        Self::Unusable,
        Self::LeftFile,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Orphan => "orphans",
            Self::FalseSuccess => "false successes",
            Self::LostImage => "lost images",
            Self::Hang => "hangs",
            Self::Unusable => "unusable afterwards",
            Self::LeftFile => "files left",
        }
    }
}

/// A broken promise.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) kind: Kind,
    pub(crate) what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.what)
    }
}

/// The rounds so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    rounds: BTreeMap<(Fault, Action), u64>,
    broken: BTreeMap<Kind, u64>,
    longest: Duration,
}

impl Tally {
    pub(crate) fn add(
        &mut self,
        action: Action,
        fault: Fault,
        broken: Vec<Broken>,
        took: Duration,
    ) {
        *self.rounds.entry((fault, action)).or_default() += 1;
        self.longest = self.longest.max(took);
        for promise in broken {
            *self.broken.entry(promise.kind).or_default() += 1;
        }
    }

    pub(crate) fn rounds(&self) -> u64 {
        self.rounds.values().sum()
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.broken.is_empty() && self.rounds() > 0
    }

    fn count(&self, kind: Kind) -> u64 {
        self.broken.get(&kind).copied().unwrap_or(0)
    }

    /// Writes the figures for programs to target/faults.json.
    pub(crate) fn save(&self, took: Duration) -> Result<()> {
        let by_fault: Vec<_> = self
            .rounds
            .iter()
            .map(|((fault, action), rounds)| json!({"fault": value_name(*fault), "action": value_name(*action), "rounds": rounds}))
            .collect();
        let broken: serde_json::Map<_, _> = Kind::ALL
            .iter()
            .map(|kind| (kind.name().to_owned(), self.count(*kind).into()))
            .collect();
        let figures = json!({
            "seconds": took.as_secs(), "rounds": self.rounds(), "longest_round_seconds": self.longest.as_secs_f64(),
            "broken": broken, "by_fault": by_fault,
        });
        std::fs::create_dir_all("target")?;
        std::fs::write("target/faults.json", format!("{figures:#}\n"))
            .context("writing target/faults.json")
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:20}", "rounds")?;
        for action in Action::value_variants() {
            write!(f, "{:>14}", value_name(*action))?;
        }
        writeln!(f)?;
        for fault in Fault::value_variants() {
            write!(f, "{:20}", value_name(*fault))?;
            for action in Action::value_variants() {
                write!(f, "{:>14}", self.rounds.get(&(*fault, *action)).copied().unwrap_or(0))?;
            }
            writeln!(f)?;
        }
        let counts = Kind::ALL.map(|kind| format!("{} {}", self.count(kind), kind.name()));
        writeln!(
            f,
            "{} rounds: {}; longest round {:.1?}",
            self.rounds(),
            counts.join(", "),
            self.longest
        )
    }
}

/// What the command line calls a value.
pub(crate) fn value_name(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
