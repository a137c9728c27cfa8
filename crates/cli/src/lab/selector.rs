//! Label selectors, for what the controller does not filter.

use std::collections::{BTreeMap, BTreeSet};

use jumpstarter_driver_core::Error;

use crate::fault::{Fault, Result};

/// A requirement of a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, BTreeSet<String>),
    NotIn(String, BTreeSet<String>),
    Exists(String),
    Missing(String),
}

/// A label selector of Kubernetes: `a=b`, `a!=b`, `a in (b,c)`, `a notin (b)`, `a`, `!a`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selector(Vec<Requirement>);

impl Selector {
    /// Reads the selector of an option.
    ///
    /// # Errors
    /// A wrong command line.
    pub(super) fn of_option(text: &str) -> Result<Self> {
        Self::parse(text).map_err(|error| {
            let error = Error::invalid_argument(error);
            Fault::Usage(error.with_hint("write labels as board=rpi4,!spare"))
        })
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut requirements = Vec::new();
        for part in split(text) {
            requirements.push(requirement(part).ok_or(format!("`{part}` selects no labels"))?);
        }
        Ok(Self(requirements))
    }

    /// The equalities, as a selector.
    pub(super) fn equalities(&self) -> String {
        let equal = self.0.iter().filter_map(|requirement| match requirement {
            Requirement::In(key, values) if values.len() == 1 => {
                Some(format!("{key}={}", values.first()?))
            }
            _ => None,
        });
        equal.collect::<Vec<_>>().join(",")
    }

    /// Whether the selector of a lease has every requirement, or fulfils it: equalities must be in
    /// it; the others hold if its equalities do not contradict.
    pub(super) fn holds_for(&self, lease: &Self) -> bool {
        self.0.iter().all(|wanted| lease.0.contains(wanted) || lease.fulfils(wanted))
    }

    /// Whether an exporter with these labels may be selected.
    pub(super) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => {
                labels.get(key).is_some_and(|value| values.contains(value))
            }
            Requirement::NotIn(key, values) => {
                labels.get(key).is_none_or(|value| !values.contains(value))
            }
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::Missing(key) => !labels.contains_key(key),
        })
    }

    fn fulfils(&self, wanted: &Requirement) -> bool {
        let value = |key: &str| {
            self.0.iter().find_map(|requirement| match requirement {
                Requirement::In(known, values) if known == key && values.len() == 1 => {
                    values.first()
                }
                _ => None,
            })
        };
        match wanted {
            Requirement::In(key, values) if values.len() > 1 => {
                value(key).is_some_and(|value| values.contains(value))
            }
            Requirement::In(..) => false,
            Requirement::NotIn(key, values) => {
                value(key).is_none_or(|value| !values.contains(value))
            }
            Requirement::Exists(key) => value(key).is_some(),
            Requirement::Missing(key) => value(key).is_none(),
        }
    }
}

/// The parts between commas, but those in parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut depth) = (Vec::new(), 0, 0);
    for (index, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[begin..index]);
                begin = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn requirement(part: &str) -> Option<Requirement> {
    let key = |text: &str| {
        let text = text.trim();
        let is_key =
            !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || "=!()".contains(c));
        is_key.then(|| text.to_owned())
    };
    let one = |value: &str| BTreeSet::from([value.trim().to_owned()]);
    if let Some(rest) = part.strip_suffix(')') {
        let (head, list) = rest.split_once('(')?;
        let values = list.split(',').map(|value| value.trim().to_owned()).collect();
        let head = head.trim_end();
        return match head.strip_suffix("notin") {
            Some(name) => Some(Requirement::NotIn(key(name)?, values)),
            None => Some(Requirement::In(key(head.strip_suffix("in")?)?, values)),
        };
    }
    if let Some((name, value)) = part.split_once("!=") {
        return Some(Requirement::NotIn(key(name)?, one(value)));
    }
    if let Some((name, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Some(Requirement::In(key(name)?, one(value)));
    }
    match part.strip_prefix('!') {
        Some(name) => Some(Requirement::Missing(key(name)?)),
        None => Some(Requirement::Exists(key(part)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(wanted: &str, lease: &str) -> bool {
        Selector::parse(wanted).unwrap().holds_for(&Selector::parse(lease).unwrap())
    }

    #[test]
    fn leases_are_found_by_what_their_selectors_say() {
        let lease = "board=sa,!none";
        for found in ["board=sa", "!none", "board=sa,!production", "", "board in (sa,sb)", "x!=y"] {
            assert!(holds(found, lease), "{found}");
        }
        for other in ["board=sa,!board", "board=sa,!none,region=us", "board!=sa", "region"] {
            assert!(!holds(other, lease), "{other}");
        }
        // The controller writes a selector in its own form.
        assert!(holds("zone!=x", "zone notin (x)"));
    }

    #[test]
    fn labels_are_selected() {
        let labels = BTreeMap::from([("board".to_owned(), "sa".to_owned())]);
        let matches = |text: &str| Selector::parse(text).unwrap().matches(&labels);
        for found in ["", "board=sa", "board", "!none", "board in (sa,sb)", "x!=y,board!=sb"] {
            assert!(matches(found), "{found}");
        }
        for other in ["board=sb", "!board", "none", "board notin (sa)", "board=sa,x=y"] {
            assert!(!matches(other), "{other}");
        }
    }

    #[test]
    fn selectors_are_parsed() {
        let parsed = Selector::parse("a=b, c==d,e in (f,g),!h,i").unwrap();
        assert_eq!((parsed.0.len(), parsed.equalities().as_str()), (5, "a=b,c=d"));
        for wrong in ["=a", "a b", "in (a)", "!"] {
            assert!(Selector::parse(wrong).is_err(), "{wrong}");
        }
    }
}
