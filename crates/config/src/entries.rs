//! The entries of `export:`: drivers, groups and proxies.

use std::collections::HashMap;

use jumpstarter_driver_core::references::{PlaceKind, References};
use jumpstarter_driver_core::{ConfigProblem, DriverEntry, Planned, Registry, bounds, suggest};
use serde_json::{Map, Value as Json};

use super::check::Checker;
use super::fault::{At, Fault, Place, join};
use super::hosting::Hosting;
use super::paths::{self, Bases};
use super::schema;
use super::secrets;
use super::wanted;
use super::words::unknown_field;
use super::yaml::{self, Value};

/// A field of any driver's `config`, since every Python driver accepts it.
const LOG_LEVEL: &str = "log_level";

/// Reads entries, collecting faults.
pub(super) struct Entries<'a> {
    registry: &'a Registry,
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<Fault>,
    references: References,
    /// The place of each reference and its path, by its number.
    written: HashMap<usize, (Place, String)>,
    shapes: Checker,
    bases: Bases,
    origin: String,
    hosting: Hosting,
}

impl<'a> Entries<'a> {
    /// Relative paths are resolved with `bases`. Messages call the file `origin`.
    pub(super) fn new(
        registry: &'a Registry,
        bases: Bases,
        origin: &str,
        hosting: Hosting,
    ) -> Self {
        Self {
            registry,
            faults: Vec::new(),
            warnings: Vec::new(),
            references: References::new(),
            written: HashMap::new(),
            shapes: Checker::new(Map::new()),
            bases,
            origin: origin.to_owned(),
            hosting,
        }
    }

    /// Reads `export:` and follows its references.
    pub(super) fn export(&mut self, node: &yaml::Node, owner: Place) -> Vec<Planned> {
        let at = At { path: "export".to_owned(), owner };
        let shape = serde_json::json!({"type": ["object", "null"]});
        self.shapes.check(&shape, node, &at, &mut self.faults);
        let entries = self.children(node, "export", 0);
        match self.references.is_too_large() {
            true => self.faults.push(Fault::new(
                node.place,
                "export",
                bounds::Excess::Drivers.to_string(),
            )),
            false => self.follow(),
        }
        entries
    }

    /// Reports dangling references.
    fn follow(&mut self) {
        for fault in self.references.faults() {
            let Some((place, path)) = self.written.get(&fault.index) else { continue };
            let mut written = Fault::new(*place, path, fault.message);
            written.hint = fault.hint;
            self.faults.push(written);
        }
    }

    fn children(&mut self, node: &yaml::Node, path: &str, parent: usize) -> Vec<Planned> {
        let mut read = Vec::new();
        for entry in node.entries() {
            let at = At { path: join(path, &entry.key), owner: entry.place };
            if entry.key.is_empty()
                || entry.key.contains(|c: char| c == '.' || c.is_whitespace() || c.is_control())
            {
                let fault = Fault::new(
                    entry.place,
                    &at.path,
                    "a name has no dots, blanks or control characters",
                );
                self.faults
                    .push(fault.hint("the name is a part of paths such as `rack.qemu.power`"));
            } else if let Err(excess) = bounds::admit(&entry.key, 0, 0) {
                self.faults.push(Fault::new(entry.place, path, excess.to_string()));
                continue;
            }
            read.extend(self.entry(&entry.key, &entry.value, &at, parent));
        }
        read
    }

    /// An entry that is hosted, with all that is below it.
    fn hosted(&mut self, name: &str, node: &yaml::Node, at: &At, parent: usize) -> Option<Planned> {
        let hosted = self.hosting.at(&at.path)?.clone();
        let host = self.hosting.host?;
        self.below_hosted(name, node, at, parent);
        let driver = Planned::driver(name, host, hosted.config).with_hosted(Some(hosted.class));
        Some(driver.with_description(text(node, "description")))
    }

    /// Checks the form of a hosted entry and of those below it.
    fn below_hosted(&mut self, name: &str, node: &yaml::Node, at: &At, parent: usize) {
        if let Some(reference) = node.get("ref") {
            self.shape(&schema::proxy_shape(), node, at);
            let target = reference.value.text().unwrap_or_default().to_owned();
            let index = self.references.add(parent, name, PlaceKind::Reference(target));
            self.written.insert(index, (reference.value.place, join(&at.path, "ref")));
            return;
        }
        let shape = match node.get("type") {
            Some(_) => schema::driver_shape(),
            None => schema::group_shape(),
        };
        self.shape(&shape, node, at);
        let index = self.references.add(parent, name, PlaceKind::Unknown);
        let path = join(&at.path, "children");
        for entry in node.get("children").map_or(&[][..], |children| children.value.entries()) {
            let at = At { path: join(&path, &entry.key), owner: entry.place };
            self.below_hosted(&entry.key, &entry.value, &at, index);
        }
    }

    fn entry(&mut self, name: &str, node: &yaml::Node, at: &At, parent: usize) -> Option<Planned> {
        if let Some(hosted) = self.hosted(name, node, at, parent) {
            return Some(hosted);
        }
        let field = |key: &str| node.get(key).map(|entry| &entry.value);
        match (field("type"), field("ref"), field("children")) {
            (Some(_), Some(reference), _) => {
                self.references.add(parent, name, PlaceKind::Unknown);
                let message = "an entry is a driver (`type`) or a proxy (`ref`), not both";
                self.faults.push(Fault::new(reference.place, join(&at.path, "ref"), message));
                None
            }
            (Some(kind), None, _) => self.driver(name, node, kind, at, parent),
            (None, Some(reference), _) => {
                let sound = self.shape(&schema::proxy_shape(), node, at);
                let target = reference.text().unwrap_or_default().to_owned();
                let kind = match sound {
                    true => PlaceKind::Reference(target.clone()),
                    false => PlaceKind::Unknown,
                };
                let index = self.references.add(parent, name, kind);
                self.written.insert(index, (reference.place, join(&at.path, "ref")));
                Some(Planned::reference(name, target).with_description(text(node, "description")))
            }
            (None, None, Some(children)) => {
                self.shape(&schema::group_shape(), node, at);
                let index = self.references.add(parent, name, PlaceKind::Known);
                let children = self.children(children, &join(&at.path, "children"), index);
                let group = Planned::group(name).with_description(text(node, "description"));
                Some(group.with_children(children))
            }
            (None, None, None) => {
                self.references.add(parent, name, PlaceKind::Unknown);
                self.unclear(node, at);
                None
            }
        }
    }

    fn driver(
        &mut self,
        name: &str,
        node: &yaml::Node,
        kind: &yaml::Node,
        at: &At,
        parent: usize,
    ) -> Option<Planned> {
        self.shape(&schema::driver_shape(), node, at);
        let entry = kind
            .text()
            .filter(|text| !text.is_empty())
            .and_then(|text| self.find(text, kind.place, at));
        let config = match entry {
            Some(entry) => self.config(entry, node, at),
            None => Json::Object(Map::new()),
        };
        let own = entry.and_then(|entry| (entry.children)(config.clone()));
        let index = self.references.add(
            parent,
            name,
            own.as_ref().map_or(PlaceKind::Unknown, |_| PlaceKind::Known),
        );
        let children = match node.get("children") {
            Some(children) => self.children(&children.value, &join(&at.path, "children"), index),
            None => Vec::new(),
        };
        if let Some(entry) = entry {
            let wanted = (entry.wanted_children)(config.clone());
            self.faults.extend(wanted::faults(entry, &wanted, node, &children, at));
            self.warnings.extend(wanted::warnings(entry, &wanted, node, at));
        }
        for child in own.unwrap_or_default() {
            // Nothing is known of the children of such a child.
            self.references.add(index, &child.name, PlaceKind::Unknown);
        }
        let described =
            node.get("methods_description").map_or(&[][..], |entry| entry.value.entries());
        let methods_description = described
            .iter()
            .filter_map(|entry| Some((entry.key.clone(), entry.value.text()?.to_owned())))
            .collect();
        let log_level = node.get("config").and_then(|config| text(&config.value, LOG_LEVEL));
        let description = text(node, "description");
        let driver = Planned::driver(name, entry?, config)
            .with_description(description)
            .with_methods_description(methods_description)
            .with_log_level(log_level)
            .with_children(children);
        Some(driver)
    }

    /// Checks `config` in three steps, each only if the one before found nothing: the schema, the
    /// types, the driver's own check.
    fn config(&mut self, entry: &'static DriverEntry, node: &yaml::Node, at: &At) -> Json {
        let empty = yaml::Node { place: at.owner, value: Value::Map(Vec::new()) };
        let (mut config, owner) = match node.get("config") {
            Some(config) if matches!(config.value.value, Value::Null) => (empty, config.place),
            Some(config) => (config.value.clone(), config.place),
            None => (empty, at.owner),
        };
        if !matches!(config.value, Value::Map(_)) {
            return Json::Null; // reported with the entry's shape
        }
        let at = At { path: join(&at.path, "config"), owner };
        let (schema, definitions) = schema::of_driver(entry);
        let before = self.faults.len();
        if schema.pointer("/properties/log_level").is_none() {
            self.log_level(&mut config, &at);
        }
        let checker = Checker::new(definitions).with_synonyms(entry.synonyms);
        checker.check(&schema, &config, &at, &mut self.faults);
        let decided = |node: &Value| {
            let mut value = node.to_json();
            paths::decide(&checker, &schema, &mut value, &self.bases);
            let place = (&config, &at);
            let warnings = secrets::place(&checker, &schema, &mut value, place, &self.origin);
            (value, warnings)
        };
        let (value, unreadable) = decided(&config.value);
        let read = |node: &Value| decided(node).0;
        let beyond = beyond_schema(entry, &schema, &config, &at, &self.faults[before..], &read);
        self.faults.extend(beyond);
        if self.faults.len() == before {
            let warnings = (entry.warnings)(value.clone());
            self.warnings.extend(unreadable);
            self.warnings
                .extend(warnings.into_iter().map(|problem| located(&config, &at, problem)));
        }
        value
    }

    /// Takes `log_level` out of a configuration whose driver lacks it.
    fn log_level(&mut self, config: &mut yaml::Node, at: &At) {
        let Value::Map(entries) = &mut config.value else { return };
        if let Some(index) = entries.iter().position(|entry| entry.key == LOG_LEVEL) {
            let level = entries.remove(index);
            let at = At { path: join(&at.path, LOG_LEVEL), owner: level.place };
            self.shapes.check(&schema::log_level_shape(), &level.value, &at, &mut self.faults);
        }
    }

    fn find(&mut self, name: &str, place: Place, at: &At) -> Option<&'static DriverEntry> {
        let path = join(&at.path, "type");
        let drivers = match self.registry.drivers() {
            Ok(drivers) => drivers,
            Err(error) => {
                self.faults.push(Fault::new(place, path, error.report()));
                return None;
            }
        };
        let found = drivers.iter().find(|entry| entry.names().any(|other| other == name));
        if found.is_none() {
            let fault =
                Fault::new(place, path, format!("there is no driver `{name}` in this program"));
            self.faults.push(fault.hint(near_drivers(name, drivers)));
        }
        found.copied()
    }

    fn shape(&mut self, shape: &Json, node: &yaml::Node, at: &At) -> bool {
        let before = self.faults.len();
        self.shapes.check(shape, node, at, &mut self.faults);
        self.faults.len() == before
    }

    /// An entry without `type`, `ref` and `children`: one of them may be misspelt.
    fn unclear(&mut self, node: &yaml::Node, at: &At) {
        const KINDS: [&str; 3] = ["type", "ref", "children"];
        let misspelt =
            node.entries().iter().find(|entry| suggest::nearest(&entry.key, KINDS).is_some());
        let fault = match (&node.value, misspelt) {
            (_, Some(entry)) => {
                unknown_field(&entry.key, entry.place, &join(&at.path, &entry.key), &KINDS, &[])
            }
            (Value::Map(_), None) => {
                Fault::new(at.owner, &at.path, "neither a driver, a proxy nor a group")
                    .hint("give it `type: DRIVER`, `ref: PATH` or `children:`")
            }
            (_, None) => {
                self.shape(&serde_json::json!({"type": "object"}), node, at);
                return;
            }
        };
        self.faults.push(fault);
    }
}

/// The faults of a configuration beyond its schema: texts that their types refuse, then the
/// driver's own check.
///
/// Deserialising stops at the first misfit, so that field is removed and the rest tried again,
/// unless the field is required. The driver's own check sees what remains.
fn beyond_schema(
    entry: &DriverEntry,
    schema: &Json,
    config: &yaml::Node,
    at: &At,
    known: &[Fault],
    read: &dyn Fn(&Value) -> Json,
) -> Vec<Fault> {
    let required = schema.get("required").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    let is_required = |name: &str| required.iter().any(|other| other == name);
    let Value::Map(entries) = &config.value else { return Vec::new() };
    let is_sound = |entry: &&yaml::Entry| {
        let path = join(&at.path, &entry.key);
        !known.iter().any(|fault| is_within(&fault.path, &path))
    };
    let mut rest: Vec<yaml::Entry> = entries.iter().filter(is_sound).cloned().collect();
    let mut faults = Vec::new();
    loop {
        let value = read(&Value::Map(rest.clone()));
        let has_all =
            required.iter().filter_map(Json::as_str).all(|name| value.get(name).is_some());
        if !has_all {
            return faults;
        }
        let (field, message) = match (entry.check)(value) {
            Ok(problems) => {
                let left_out = left_out(entries, &rest, schema, entry.synonyms);
                let real = problems.into_iter().filter(|problem| !may_follow(problem, &left_out));
                faults.extend(real.map(|problem| located(config, at, problem)));
                return faults;
            }
            Err(misfit) => misfit,
        };
        let (message, hint) = match message.split_once("\nhint: ") {
            Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
            None => (message, None),
        };
        let field = field.trim_start_matches('.').to_owned();
        let culprit = rest.iter().position(|entry| is_within(&field, &entry.key));
        let mut problem = ConfigProblem::new(field, message);
        problem.hint = hint;
        let Some(culprit) = culprit.filter(|index| !is_required(&rest[*index].key)) else {
            // Without a field to remove, further faults may only follow from the removed ones.
            if known.is_empty() && faults.is_empty() || culprit.is_some() {
                faults.push(located(config, at, problem));
            }
            return faults;
        };
        faults.push(located(config, at, problem));
        rest.remove(culprit);
    }
}

/// Whether `path` is `name` or below it.
fn is_within(path: &str, name: &str) -> bool {
    path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The fields that were removed from a configuration because they are wrong, with the fields that
/// they were meant to be.
fn left_out(
    entries: &[yaml::Entry],
    rest: &[yaml::Entry],
    schema: &Json,
    synonyms: &[(&str, &str)],
) -> Vec<String> {
    let fields = schema.get("properties").and_then(Json::as_object);
    let fields: Vec<&str> = fields.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let gone = entries.iter().filter(|entry| rest.iter().all(|other| other.key != entry.key));
    gone.flat_map(|entry| {
        [Some(entry.key.as_str()), suggest::meant(&entry.key, fields.iter().copied(), synonyms)]
    })
    .flatten()
    .map(str::to_owned)
    .collect()
}

/// Whether a problem of the driver's check may only follow from the removed fields: it is about one
/// of them, names it, or is about the whole.
fn may_follow(problem: &ConfigProblem, left_out: &[String]) -> bool {
    let text = format!("{} {}", problem.message, problem.hint.as_deref().unwrap_or_default());
    let is_meant =
        |name: &String| is_within(&problem.field, name) || text.contains(&format!("`{name}`"));
    !left_out.is_empty() && (problem.field.is_empty() || left_out.iter().any(is_meant))
}

fn located(config: &yaml::Node, at: &At, problem: ConfigProblem) -> Fault {
    let path = match problem.field.as_str() {
        "" => at.path.clone(),
        field => format!("{}.{field}", at.path),
    };
    let mut fault = Fault::new(config.locate(&problem.field), path, problem.message);
    fault.hint = problem.hint;
    fault
}

fn text(node: &yaml::Node, key: &str) -> Option<String> {
    node.get(key).and_then(|entry| entry.value.text()).map(str::to_owned)
}

/// A hint with the nearest names, else with all of them.
fn near_drivers(name: &str, drivers: &[&'static DriverEntry]) -> String {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let all = drivers.iter().flat_map(|entry| entry.names());
    let mut near: Vec<&str> = Vec::new();
    near.extend(suggest::nearest(name, all.clone()));
    // Only the class, as written or as the end of an import path.
    let lasts: Vec<(String, &str)> = all.map(|full| (last(full), full)).collect();
    if let Some(class) = suggest::nearest(&last(name), lasts.iter().map(|(last, _)| last.as_str()))
    {
        near.extend(lasts.iter().filter(|(last, _)| last == class).map(|(_, full)| *full));
    }
    let mut seen = std::collections::HashSet::new();
    near.retain(|name| seen.insert(*name));
    near.truncate(3);
    match near.as_slice() {
        [] => format!(
            "there are {}; a driver of another crate is in that crate's program, such as \
             `acme-relay-jmp`",
            suggest::list(drivers.iter().map(|entry| entry.name))
        ),
        [one] => format!("did you mean `{one}`?"),
        several => format!("did you mean one of {}?", suggest::list(several.iter().copied())),
    }
}
