//! Values of a file, each with its place.

use serde_json::Number;

use super::fault::Place;

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// A value of YAML's core schema.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its place, and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) value: Node,
}

impl Value {
    /// Returns the value without places.
    pub(super) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Self::Null => Json::Null,
            Self::Bool(value) => Json::Bool(*value),
            Self::Number(value) => Json::Number(value.clone()),
            Self::Text(value) => Json::String(value.clone()),
            Self::List(items) => items.iter().map(|item| item.value.to_json()).collect(),
            Self::Map(entries) => Json::Object(
                entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.value.value.to_json()))
                    .collect(),
            ),
        }
    }
}

impl Node {
    /// The entry of that key, if this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The entries of a mapping; empty for anything else.
    pub(super) fn entries(&self) -> &[Entry] {
        if let Value::Map(entries) = &self.value { entries } else { &[] }
    }

    /// The text, if this is text.
    pub(super) fn text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    /// The place of `path` (`a.b[0].c`) below this node, or of the deepest existing part of it.
    pub(super) fn locate(&self, path: &str) -> Place {
        let path = path.trim_start_matches('.');
        match &self.value {
            Value::Map(entries) => {
                let rest = |key: &str| {
                    path.strip_prefix(key).filter(|r| r.is_empty() || r.starts_with(['.', '[']))
                };
                let found = entries.iter().filter_map(|entry| Some((entry, rest(&entry.key)?)));
                let longest = found.max_by_key(|(entry, _)| entry.key.len());
                longest.map_or(self.place, |(entry, rest)| entry.value.locate(rest))
            }
            Value::List(items) => {
                let split = path.strip_prefix('[').and_then(|path| path.split_once(']'));
                let found = split.and_then(|(index, rest)| {
                    Some((items.get(index.parse::<usize>().ok()?)?, rest))
                });
                found.map_or(self.place, |(item, rest)| item.locate(rest))
            }
            _ => self.place,
        }
    }
}
