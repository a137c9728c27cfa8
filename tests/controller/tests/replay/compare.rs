//! Compares an answer with the recorded one.
use std::fmt::Write as _;

use serde_json::Value;

/// Texts that the real controller's libraries make. Ours names the same culprit otherwise.
const OTHER_WORDS: &[(&str, &str)] = &[
    // Go's JSON reader speaks of the decoded bytes of the token.
    ("invalid continue token: continue key is not valid", "invalid continue token"),
];

/// What differs, in the order of the steps.
#[derive(Default)]
pub(crate) struct Differences {
    step: String,
    is_listed_early: bool,
    found: String,
}

impl Differences {
    /// Says which step the next differences are of.
    pub(crate) fn at(&mut self, number: usize, step: &Value) {
        self.step = format!("step {number}: {step}");
        // The recording lists leases that its controller had not looked at yet; ours has.
        self.is_listed_early = step["call"] == "jumpstarter.client.v1.ClientService/ListLeases";
    }

    /// Notes a difference unless something holds.
    pub(crate) fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            writeln!(self.found, "{}\n    {}", self.step, what()).unwrap();
        }
    }

    /// # Panics
    /// With all differences.
    pub(crate) fn assert_none(&self) {
        assert!(self.found.is_empty(), "{}", self.found);
    }
}

/// Notes where `ours` is not what was recorded.
pub(crate) fn compare(differences: &mut Differences, recorded: &Value, ours: &Value) {
    at(differences, "answer", recorded, ours);
}

fn at(differences: &mut Differences, path: &str, recorded: &Value, ours: &Value) {
    match (recorded, ours) {
        (Value::Object(recorded), Value::Object(ours)) => {
            for (key, value) in recorded {
                at(
                    differences,
                    &format!("{path}.{key}"),
                    value,
                    &ours.get(key).cloned().unwrap_or_default(),
                );
            }
            for (key, value) in ours {
                // Of conditions these two are left out; of the third, see above.
                let is_left_out =
                    matches!(key.as_str(), "lastTransitionTime" | "observedGeneration")
                        || key == "conditions" && differences.is_listed_early;
                let is_known = recorded.contains_key(key) || is_left_out;
                differences.check(is_known, || format!("{path}.{key} is not recorded: {value}"));
            }
        }
        (Value::Array(recorded), Value::Array(ours)) if recorded.len() == ours.len() => {
            for (index, (recorded, ours)) in recorded.iter().zip(ours).enumerate() {
                at(differences, &format!("{path}[{index}]"), recorded, ours);
            }
        }
        (Value::String(text), Value::String(our)) => differences
            .check(stands_for(text, our), || {
                format!("{path}: recorded {text:?}\n    ours {our:?}")
            }),
        _ => {
            let same = recorded == ours;
            differences.check(same, || format!("{path}: recorded {recorded}\n    ours {ours}"));
        }
    }
}

/// Whether our text is the recorded one, or something of the kind that it stands for.
fn stands_for(recorded: &str, ours: &str) -> bool {
    let is_uuid = |text: &str| text.len() == 36 && text.matches('-').count() == 4;
    let other = OTHER_WORDS.iter().find(|(begin, _)| recorded.starts_with(begin));
    if let Some((_, ours_begins)) = other {
        return ours.starts_with(ours_begins);
    }
    match recorded {
        "<time>" => ours.contains('T') && ours.ends_with('Z'),
        "<duration>" => ours.ends_with('s'),
        "<jwt>" => ours.matches('.').count() == 2,
        "<token>" => !ours.is_empty(),
        _ => match recorded.strip_suffix("<uuid>") {
            Some(begin) => ours.strip_prefix(begin).is_some_and(is_uuid),
            None => recorded == ours,
        },
    }
}
