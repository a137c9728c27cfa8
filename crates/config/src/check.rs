//! Checks a value against a JSON schema, reporting every fault with its place.
//!
//! The part of JSON Schema that configurations need: types, properties, items, required, enum,
//! const, ranges, lengths, alternatives and references. Other keywords (`pattern`, `format`) are
//! left to deserialising.

use jumpstarter_driver_core::{HostPath, Secret, suggest};
use serde_json::{Map, Value as Json};

use super::fault::{At, Fault, join};
use super::words::{
    array, describe, format, found, in_words, is_null, is_secret, is_type, join_words, misread,
    not_allowed, one_of, type_hint, types, unknown_field,
};
use super::yaml::{Node, Value};

/// The longest chain of references and alternatives without a value between them.
const MAX_HOPS: usize = 32;

const MISSING: &str = "missing required field";

/// Checks against schemas that refer to `#/$defs/…`.
pub(super) struct Checker {
    definitions: Map<String, Json>,
    synonyms: &'static [(&'static str, &'static str)],
}

impl Checker {
    pub(super) fn new(definitions: Map<String, Json>) -> Self {
        Self { definitions, synonyms: &[] }
    }

    /// Adds other names of fields, for hints.
    pub(super) fn with_synonyms(
        mut self,
        synonyms: &'static [(&'static str, &'static str)],
    ) -> Self {
        self.synonyms = synonyms;
        self
    }

    /// Adds the faults of `node` to `faults`.
    pub(super) fn check(&self, schema: &Json, node: &Node, at: &At, faults: &mut Vec<Fault>) {
        self.walk(schema, node, at, faults, 0);
    }

    fn walk(&self, schema: &Json, node: &Node, at: &At, faults: &mut Vec<Fault>, hops: usize) {
        let Json::Object(schema) = schema else {
            if schema == &Json::Bool(false) {
                faults.push(Fault::new(node.place, &at.path, "nothing may be written here"));
            }
            return;
        };
        if hops > MAX_HOPS {
            return;
        }
        if let Some(target) = self.target(schema) {
            self.walk(target, node, at, faults, hops + 1);
        }
        if !self.right_type(schema, node, at, faults) {
            return;
        }
        self.allowed(schema, node, at, faults);
        self.bounds(schema, node, at, faults);
        for part in array(schema, "allOf") {
            self.walk(part, node, at, faults, hops + 1);
        }
        for key in ["anyOf", "oneOf"] {
            if schema.contains_key(key) {
                self.alternatives(array(schema, key), node, at, faults, hops + 1);
            }
        }
        match &node.value {
            Value::Map(_) => self.mapping(schema, node, at, faults),
            Value::List(items) => self.list(schema, items, at, faults),
            _ => {}
        }
    }

    /// The schema that a `$ref` names.
    fn target(&self, schema: &Map<String, Json>) -> Option<&Json> {
        let name = schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")?;
        self.definitions.get(&name.replace("~1", "/").replace("~0", "~"))
    }

    fn right_type(
        &self,
        schema: &Map<String, Json>,
        node: &Node,
        at: &At,
        faults: &mut Vec<Fault>,
    ) -> bool {
        let types = types(schema);
        if types.is_empty() || types.iter().any(|name| is_type(&node.value, name)) {
            return true;
        }
        let message =
            format!("found {}, expected {}", found(schema, &node.value), self.expected(schema));
        let mut fault = Fault::new(node.place, &at.path, message);
        if let Some(hint) = type_hint(&types, &node.value) {
            fault = fault.hint(hint);
        }
        faults.push(fault);
        false
    }

    fn allowed(&self, schema: &Map<String, Json>, node: &Node, at: &At, faults: &mut Vec<Fault>) {
        let mut allowed: Vec<&Json> = array(schema, "enum").iter().collect();
        allowed.extend(schema.get("const"));
        if !allowed.is_empty() && !allowed.contains(&&node.value.to_json()) {
            faults.push(not_allowed(schema, &allowed, node, at));
        }
    }

    fn bounds(&self, schema: &Map<String, Json>, node: &Node, at: &At, faults: &mut Vec<Fault>) {
        let limit = |name: &str| schema.get(name).and_then(Json::as_f64);
        let mut wrong = |is_wrong: bool| {
            if is_wrong {
                let message = format!(
                    "found {}, expected {}",
                    found(schema, &node.value),
                    self.expected(schema)
                );
                faults.push(Fault::new(node.place, &at.path, message));
            }
        };
        match &node.value {
            Value::Number(number) => {
                let number = number.as_f64().unwrap_or_default();
                wrong(
                    limit("minimum").is_some_and(|least| number < least)
                        || limit("maximum").is_some_and(|most| number > most)
                        || limit("exclusiveMinimum").is_some_and(|least| number <= least)
                        || limit("exclusiveMaximum").is_some_and(|most| number >= most),
                );
            }
            Value::Text(text) => {
                if let Some(error) = misread(schema, text) {
                    let mut fault = Fault::new(node.place, &at.path, error.to_string());
                    fault.hint = error.hint().map(str::to_owned);
                    faults.push(fault);
                    return;
                }
                let length = text.chars().count() as f64;
                let short = limit("minLength").is_some_and(|least| length < least);
                let long = limit("maxLength").is_some_and(|most| length > most);
                if short && text.is_empty() {
                    faults.push(Fault::new(node.place, &at.path, "must not be empty"));
                } else {
                    wrong(short || long);
                }
            }
            Value::List(items) => {
                let (least, most) = (limit("minItems"), limit("maxItems"));
                let length = items.len() as f64;
                if least.is_some_and(|least| length < least)
                    || most.is_some_and(|most| length > most)
                {
                    let range = match (least, most) {
                        (Some(least), Some(most)) if least == most => format!("{least}"),
                        (Some(least), Some(most)) => format!("{least} to {most}"),
                        (Some(least), None) => format!("at least {least}"),
                        (None, most) => format!("at most {}", most.unwrap_or_default()),
                    };
                    let message = format!("found a list of {length}, expected {range} items");
                    faults.push(Fault::new(node.place, &at.path, message));
                }
            }
            _ => {}
        }
    }

    fn list(&self, schema: &Map<String, Json>, items: &[Node], at: &At, faults: &mut Vec<Fault>) {
        let first = array(schema, "prefixItems");
        for (index, item) in items.iter().enumerate() {
            if let Some(of_item) = first.get(index).or(schema.get("items")) {
                let at = At { path: format!("{}[{index}]", at.path), owner: item.place };
                self.walk(of_item, item, &at, faults, 0);
            }
        }
    }

    fn mapping(&self, schema: &Map<String, Json>, node: &Node, at: &At, faults: &mut Vec<Fault>) {
        let own = schema.get("properties").and_then(Json::as_object);
        let other = ["additionalProperties", "unevaluatedProperties"]
            .iter()
            .find_map(|name| schema.get(*name));
        let patterns = schema.get("patternProperties").and_then(Json::as_object);
        let by_pattern = patterns.and_then(|patterns| patterns.values().next());
        let closed = other == Some(&Json::Bool(false)) && by_pattern.is_none();
        let (mut known, mut misspelt) = (Vec::new(), Vec::new());
        if closed {
            self.property_names(schema, &mut known, 0);
        }
        for entry in node.entries() {
            let inside = At { path: join(&at.path, &entry.key), owner: entry.place };
            if let Some(of_property) = own.and_then(|own| own.get(&entry.key)) {
                self.walk(of_property, &entry.value, &inside, faults, 0);
            } else if closed && !known.contains(&entry.key.as_str()) {
                let known_names = known.iter().copied();
                misspelt.extend(suggest::meant(&entry.key, known_names, self.synonyms));
                faults.push(unknown_field(
                    &entry.key,
                    entry.place,
                    &inside.path,
                    &known,
                    self.synonyms,
                ));
            } else if !closed && let Some(of_rest) = by_pattern.or(other) {
                self.walk(of_rest, &entry.value, &inside, faults, 0);
            }
        }
        for name in array(schema, "required").iter().filter_map(Json::as_str) {
            if node.get(name).is_none() && !misspelt.contains(&name) {
                let of_missing = own.and_then(|own| own.get(name)).unwrap_or(&Json::Null);
                let mut fault = Fault::new(at.owner, join(&at.path, name), MISSING);
                let expected = of_missing.as_object().map(|schema| self.expected(schema));
                let about = of_missing
                    .get("description")
                    .and_then(Json::as_str)
                    .and_then(|text| text.lines().next());
                fault.hint = match (expected, about.map(|about| about.trim_end_matches('.'))) {
                    (Some(expected), Some(about)) => Some(format!("expected {expected}: {about}")),
                    (expected, _) => expected.map(|expected| format!("expected {expected}")),
                };
                faults.push(fault);
            }
        }
    }

    /// The names of every property that a mapping may have, in all parts of its schema.
    fn property_names<'a>(
        &'a self,
        schema: &'a Map<String, Json>,
        names: &mut Vec<&'a str>,
        hops: usize,
    ) {
        if hops > MAX_HOPS {
            return;
        }
        let own = schema.get("properties").and_then(Json::as_object);
        names.extend(own.into_iter().flat_map(|own| own.keys().map(String::as_str)));
        let parts = ["allOf", "anyOf", "oneOf"].into_iter().flat_map(|key| array(schema, key));
        for part in parts.chain(self.target(schema)).filter_map(Json::as_object) {
            self.property_names(part, names, hops + 1);
        }
    }

    /// One of the alternatives must fit; otherwise the fault of the most likely one is reported.
    fn alternatives(
        &self,
        parts: &[Json],
        node: &Node,
        at: &At,
        faults: &mut Vec<Fault>,
        hops: usize,
    ) {
        let outcomes: Vec<(&Json, Vec<Fault>)> = parts
            .iter()
            .map(|part| {
                let mut found = Vec::new();
                self.walk(part, node, at, &mut found, hops);
                (part, found)
            })
            .collect();
        if outcomes.iter().any(|(_, found)| found.is_empty()) {
            return;
        }
        let resolved: Vec<&Map<String, Json>> =
            parts.iter().filter_map(|part| self.resolve(part)).collect();
        // An optional value: only its own type matters where it is written.
        let mut written =
            outcomes.iter().filter(|(part, _)| !self.resolve(part).is_some_and(is_null));
        if let (Some((_, found)), None) = (written.next(), written.next()) {
            faults.extend(found.iter().cloned());
            return;
        }
        // All constants: list them together.
        let constants: Vec<&Json> = resolved
            .iter()
            .flat_map(|part| array(part, "enum").iter().chain(part.get("const")))
            .collect();
        let is_constant =
            |part: &&Map<String, Json>| part.contains_key("enum") || part.contains_key("const");
        if !constants.is_empty() && resolved.iter().all(|part| is_constant(part) || is_null(part)) {
            let fault = not_allowed(resolved[0], &constants, node, at);
            faults.push(match (&fault.hint, meanings(&resolved)) {
                (None, Some(meanings)) => fault.hint(meanings),
                _ => fault,
            });
            return;
        }
        // Objects with a constant tag field: report that field, or check the alternative that it
        // names.
        if let Some(fault) = self.wrong_tag(&resolved, node, at) {
            faults.push(fault);
            return;
        }
        // A fault at the value itself means that another alternative was intended, if one has no
        // such fault.
        let fits = |found: &[Fault]| !found.iter().any(|fault| fault.path == at.path);
        let mut near: Vec<Vec<Fault>> = Vec::new();
        for ((part, found), of_part) in outcomes.into_iter().zip(&resolved) {
            if fits(&found) && self.tag_fits(of_part, node) && part.is_object() {
                near.push(found);
            }
        }
        if let Some(best) = near.into_iter().min_by_key(Vec::len) {
            faults.extend(best);
            return;
        }
        let secret = resolved.iter().find(|part| is_secret(part)).or(resolved.first());
        let shown =
            secret.map_or_else(|| describe(&node.value), |schema| found(schema, &node.value));
        let expected: Vec<String> =
            resolved.iter().filter(|part| !is_null(part)).map(|part| self.expected(part)).collect();
        let message = format!("found {shown}, expected {}", join_words(expected));
        faults.push(Fault::new(node.place, &at.path, message));
    }

    fn wrong_tag(&self, parts: &[&Map<String, Json>], node: &Node, at: &At) -> Option<Fault> {
        let (tag, _) = tags(parts.first()?).next()?;
        let values: Vec<&Json> = parts
            .iter()
            .filter_map(|part| tags(part).find(|(name, _)| *name == tag).map(|(_, value)| value))
            .collect();
        let (true, Value::Map(_)) = (values.len() == parts.len(), &node.value) else { return None };
        let path = join(&at.path, tag);
        match node.get(tag) {
            None => {
                let names = suggest::list(values.iter().filter_map(|value| value.as_str()));
                Some(Fault::new(at.owner, path, MISSING).hint(format!("expected one of {names}")))
            }
            Some(entry) if !values.contains(&&entry.value.value.to_json()) => {
                let at = At { path, owner: entry.place };
                Some(not_allowed(&Map::new(), &values, &entry.value, &at))
            }
            Some(_) => None,
        }
    }

    /// Whether the constant fields of an alternative match.
    fn tag_fits(&self, part: &Map<String, Json>, node: &Node) -> bool {
        tags(part).all(|(name, value)| {
            node.get(name).is_none_or(|entry| entry.value.value.to_json() == *value)
        })
    }

    /// A schema with its references resolved.
    fn resolve<'a>(&'a self, schema: &'a Json) -> Option<&'a Map<String, Json>> {
        let mut schema = schema.as_object()?;
        for _ in 0..MAX_HOPS {
            match self.target(schema) {
                Some(target) => schema = target.as_object()?,
                None => return Some(schema),
            }
        }
        None
    }

    /// The schemas that a value may follow, with references and alternatives resolved.
    pub(super) fn parts<'a>(&'a self, schema: &'a Json) -> Vec<&'a Map<String, Json>> {
        let mut parts = Vec::new();
        self.collect_parts(schema, &mut parts, 0);
        parts
    }

    fn collect_parts<'a>(
        &'a self,
        schema: &'a Json,
        parts: &mut Vec<&'a Map<String, Json>>,
        hops: usize,
    ) {
        let Some(schema) = self.resolve(schema).filter(|_| hops < MAX_HOPS) else { return };
        parts.push(schema);
        for part in ["allOf", "anyOf", "oneOf"].into_iter().flat_map(|key| array(schema, key)) {
            self.collect_parts(part, parts, hops + 1);
        }
    }

    /// Describes what a schema expects.
    pub(super) fn expected(&self, schema: &Map<String, Json>) -> String {
        if let Some(target) = self.target(schema).and_then(Json::as_object) {
            return self.expected(target);
        }
        match format(schema) {
            "byte-size" => return "a size such as 512M or 20G, or a number of bytes".to_owned(),
            "time-span" => return "a time such as 30s or 2min, or a number of seconds".to_owned(),
            HostPath::FORMAT => return "a path".to_owned(),
            Secret::FORMAT => return "text, `{env: NAME}` or `{file: PATH}`".to_owned(),
            _ => {}
        }
        let values: Vec<&Json> = array(schema, "enum").iter().chain(schema.get("const")).collect();
        if !values.is_empty() {
            return one_of(&values);
        }
        let types: Vec<&str> = types(schema).into_iter().filter(|name| *name != "null").collect();
        if types.is_empty() {
            let parts: Vec<String> = ["anyOf", "oneOf", "allOf"]
                .iter()
                .flat_map(|key| array(schema, key))
                .filter_map(Json::as_object)
                .filter(|part| !is_null(part))
                .map(|part| self.expected(part))
                .collect();
            return if parts.is_empty() { "anything".to_owned() } else { join_words(parts) };
        }
        let words: Vec<String> = types.iter().map(|name| in_words(name, schema)).collect();
        words.join(" or ")
    }
}

/// The constant fields of an object.
fn tags(schema: &Map<String, Json>) -> impl Iterator<Item = (&str, &Json)> {
    let properties = schema.get("properties").and_then(Json::as_object).into_iter().flatten();
    properties.filter_map(|(name, of_property)| Some((name.as_str(), of_property.get("const")?)))
}

/// "`cut`: Cuts the power; `graceful`: …", if the values of an enumeration are documented.
fn meanings(parts: &[&Map<String, Json>]) -> Option<String> {
    let of_part = |part: &&Map<String, Json>| {
        let about = part.get("description")?.as_str()?.lines().next()?;
        let sentence =
            about.split_inclusive(". ").next().unwrap_or(about).trim_end_matches(['.', ' ']);
        Some(format!("`{}`: {sentence}", part.get("const")?.as_str()?))
    };
    let meanings: Vec<String> = parts.iter().filter_map(of_part).collect();
    (!meanings.is_empty()).then(|| meanings.join("; "))
}
