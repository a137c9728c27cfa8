//! Scripts as files have them: a list of mappings.

use std::fmt;
use std::time::Duration;

use jumpstarter_driver_core::{Error, Result, Secret, Span};
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{Action, STEP, Script, Step};
use crate::key;
use crate::pattern::Pattern;

/// How often a key is pressed by default.
const EVERY: Duration = Duration::from_secs(1);

impl<'de> Deserialize<'de> for Script {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { steps: Vec::deserialize(deserializer)?, deadline: None })
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = WrittenStep::deserialize(deserializer)?;
        written.into_step().map_err(|error| de::Error::custom(error.report()))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenStep {
    expect: Option<Alternatives>,
    send: Option<String>,
    line: Option<String>,
    key: Option<String>,
    secret: Option<Secret>,
    fail: Option<String>,
    within: Option<Span>,
    press: Option<String>,
    every: Option<Span>,
}

impl WrittenStep {
    fn into_step(self) -> Result<Step> {
        let wrong = |message: &str| Err(Error::invalid_argument(message));
        let key = self.key.as_deref().map(key::bytes_of).transpose()?;
        let press = self.press.as_deref().map(key::bytes_of).transpose()?;
        let every = self.every.map_or(EVERY, Span::as_duration);
        let (pressed, timed) = (press.is_some(), self.every.is_some());
        let press = press.map(|key| (key, every));
        let expects = self.expect.is_some();
        let mut actions = [
            self.expect.map(|Alternatives(alternatives)| Action::Expect { alternatives, press }),
            self.send.map(|text| Action::Send(text.into_bytes())),
            self.line.map(Action::Line),
            key.map(Action::Send),
            self.secret.map(Action::Secret),
            self.fail.map(Action::Fail),
        ]
        .into_iter()
        .flatten();
        let (Some(action), None) = (actions.next(), actions.next()) else {
            return wrong("a step has one of `expect`, `send`, `line`, `key`, `secret`, `fail`");
        };
        if pressed && !expects {
            return wrong("`press` belongs to `expect`");
        }
        if timed && !pressed {
            return wrong("`every` belongs to `press`");
        }
        Ok(Step { action, within: self.within.map_or(STEP, Span::as_duration) })
    }
}

/// Patterns, each with the steps that follow on it.
struct Alternatives(Vec<(Pattern, Vec<Step>)>);

/// One of them.
struct Alternative(Pattern, Vec<Step>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenAlternative {
    text: Option<String>,
    regex: Option<String>,
    #[serde(default)]
    then: Vec<Step>,
}

impl<'de> Deserialize<'de> for Alternatives {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AlternativesVisitor)
    }
}

impl<'de> Deserialize<'de> for Alternative {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AlternativeVisitor)
    }
}

/// By hand: an untagged enum would hide the faults of the steps in it.
struct AlternativeVisitor;

impl<'de> Visitor<'de> for AlternativeVisitor {
    type Value = Alternative;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text or `{regex: …}`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Alternative, E> {
        Ok(Alternative(Pattern::literal(text), Vec::new()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Alternative, A::Error> {
        let written = WrittenAlternative::deserialize(MapAccessDeserializer::new(map))?;
        let pattern = match (&written.text, &written.regex) {
            (Some(text), None) => Ok(Pattern::literal(text)),
            (None, Some(expression)) => Pattern::regex(expression),
            _ => Err(Error::invalid_argument("name either `text` or `regex`")),
        };
        let pattern = pattern.map_err(|error| de::Error::custom(error.report()))?;
        Ok(Alternative(pattern, written.then))
    }
}

struct AlternativesVisitor;

impl<'de> Visitor<'de> for AlternativesVisitor {
    type Value = Alternatives;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, `{regex: …}` or a list of these")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Alternatives, E> {
        AlternativeVisitor.visit_str(text).map(Alternatives::from)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Alternatives, A::Error> {
        AlternativeVisitor.visit_map(map).map(Alternatives::from)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Alternatives, A::Error> {
        let list = Vec::<Alternative>::deserialize(SeqAccessDeserializer::new(list))?;
        if list.is_empty() {
            return Err(de::Error::custom("nothing is expected"));
        }
        Ok(Alternatives(list.into_iter().map(|one| (one.0, one.1)).collect()))
    }
}

impl From<Alternative> for Alternatives {
    fn from(one: Alternative) -> Self {
        Self(vec![(one.0, one.1)])
    }
}
