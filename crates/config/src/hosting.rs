//! Entries whose drivers this program lacks: a driver that hosts others stands for each of them.
//!
//! What such a driver refers to has to be where it is: the targets of its references are hosted in
//! the same process, even if this program has a driver for them.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use jumpstarter_driver_core::{DriverEntry, Registry};
use serde_json::{Map, Value as Json, json};

use super::devices::{self, Owner};
use super::fault::{Fault, join};
use super::hosted::HostedEntry;
use super::yaml::{self, Value};

/// How many references may lead to one another.
const MAX_HOPS: usize = 32;

/// How an entry is hosted.
#[derive(Clone, Debug)]
pub(super) struct Hosted {
    pub(super) class: String,
    pub(super) config: Json,
}

/// What is hosted of a file.
#[derive(Debug, Default)]
pub(super) struct Hosting {
    pub(super) host: Option<&'static DriverEntry>,
    /// By the path in the file: nodes that an alias repeats have one place.
    by_path: HashMap<String, Hosted>,
    pub(super) entries: Vec<HostedEntry>,
    pub(super) faults: Vec<Fault>,
}

impl Hosting {
    /// Decides for `export`, of a file in `folder` that names the interpreter `python`.
    pub(super) fn decide(
        registry: &Registry,
        export: &yaml::Node,
        folder: Option<&Path>,
        python: Option<&str>,
    ) -> Self {
        let drivers = registry.drivers().unwrap_or_default();
        let Some(host) = registry.host() else { return Self::default() };
        let mut search = Search::of(drivers, export);
        if !search.items.iter().any(Item::is_wanted) {
            return Self { host: Some(host), ..Self::default() };
        }
        search.roots(0);
        search.follow();
        let mut hosting = Self { host: Some(host), ..Self::default() };
        hosting.faults = search.faults();
        hosting.entries = search.hosted_entries();
        // That of a file without a folder before its name is the working directory.
        let folder: Option<PathBuf> =
            folder.and_then(|folder| std::path::absolute(Path::new(".").join(folder)).ok());
        for entry in &mut hosting.entries {
            entry.python = python.map(str::to_owned);
            entry.folder.clone_from(&folder);
        }
        let classes: BTreeSet<&str> =
            hosting.entries.iter().map(|entry| entry.class.as_str()).collect();
        let processes = search.processes();
        hosting.faults.extend(devices::faults(search.owners(&processes)));
        for (number, process) in processes.into_iter().enumerate() {
            let tree = search.tree(&process);
            for root in process {
                let item = &search.items[root];
                let class = item.class().unwrap_or_default();
                let config = json!({
                    "class": class, "place": item.place, "process": number, "tree": tree,
                    "python": python, "folder": folder, "classes": classes,
                });
                hosting.by_path.insert(item.path.clone(), Hosted { class, config });
            }
        }
        hosting
    }

    /// How the entry at `path` is hosted, if it is.
    pub(super) fn at(&self, path: &str) -> Option<&Hosted> {
        self.by_path.get(path)
    }
}

enum Kind {
    /// A driver of this program, and whether the entry asks for that in Python.
    Native(&'static DriverEntry, bool),
    /// The import path of another driver.
    Foreign(String),
    Group,
    Reference(String),
    Unclear,
}

/// An entry, or the root of all.
struct Item<'a> {
    name: String,
    /// From the root of the device.
    place: String,
    /// In the file.
    path: String,
    node: &'a yaml::Node,
    kind: Kind,
    parent: usize,
    children: Vec<usize>,
}

impl Item<'_> {
    fn is_wanted(&self) -> bool {
        matches!(self.kind, Kind::Foreign(_) | Kind::Native(_, true))
    }

    /// The import path of its class in Python.
    fn class(&self) -> Option<String> {
        match &self.kind {
            Kind::Foreign(class) => Some(class.clone()),
            Kind::Native(entry, _) => {
                // As written, where that is one of several.
                let written = self.node.get("type").and_then(|kind| kind.value.text());
                let names = entry.python_names;
                let named = names.iter().find(|name| Some(**name) == written);
                named.or(names.first()).map(|name| (*name).to_owned())
            }
            Kind::Group | Kind::Reference(_) | Kind::Unclear => None,
        }
    }
}

struct Search<'a> {
    items: Vec<Item<'a>>,
    /// What is hosted with all that is below it, and of each one with which it is hosted.
    hosted: HashMap<usize, usize>,
    /// References through which a hosted driver reaches another one, each with the first one.
    aliases: BTreeSet<(usize, usize)>,
    queue: Vec<usize>,
}

impl<'a> Search<'a> {
    fn of(drivers: &[&'static DriverEntry], export: &'a yaml::Node) -> Self {
        let root = Item {
            name: String::new(),
            place: String::new(),
            path: "export".to_owned(),
            node: export,
            kind: Kind::Group,
            parent: 0,
            children: Vec::new(),
        };
        let mut search = Self {
            items: vec![root],
            hosted: HashMap::new(),
            aliases: BTreeSet::new(),
            queue: vec![],
        };
        search.add(drivers, export, 0);
        search
    }

    fn add(&mut self, drivers: &[&'static DriverEntry], children: &'a yaml::Node, parent: usize) {
        for entry in children.entries() {
            let node = &entry.value;
            let text = |key: &str| node.get(key).and_then(|entry| entry.value.text());
            let asks = node
                .get("python")
                .is_some_and(|entry| matches!(entry.value.value, Value::Bool(true)));
            let kind = match (text("type"), text("ref")) {
                (Some(name), None) => {
                    let native =
                        drivers.iter().find(|entry| entry.names().any(|other| other == name));
                    match native {
                        Some(native) => Kind::Native(native, asks),
                        None if name.contains('.') => Kind::Foreign(name.to_owned()),
                        None => Kind::Unclear,
                    }
                }
                (None, Some(target)) => Kind::Reference(target.to_owned()),
                (None, None) if node.get("children").is_some() => Kind::Group,
                _ => Kind::Unclear,
            };
            let index = self.items.len();
            let above = &mut self.items[parent];
            above.children.push(index);
            let place = match above.place.as_str() {
                "" => entry.key.clone(),
                above => format!("{above}.{}", entry.key),
            };
            let path = match parent {
                0 => join(&above.path, &entry.key),
                _ => join(&join(&above.path, "children"), &entry.key),
            };
            let name = entry.key.clone();
            self.items.push(Item { name, place, path, node, kind, parent, children: Vec::new() });
            if let Some(children) = node.get("children") {
                self.add(drivers, &children.value, index);
            }
        }
    }

    /// Finds what has to be hosted by itself.
    fn roots(&mut self, at: usize) {
        if self.items[at].is_wanted() {
            self.host(at, at);
            return;
        }
        for child in self.items[at].children.clone() {
            self.roots(child);
        }
    }

    /// Hosts the entry, with all that is below it, together with what `with` is hosted with.
    fn host(&mut self, at: usize, with: usize) {
        let below: Vec<usize> =
            self.hosted.keys().copied().filter(|root| self.is_within(*root, at)).collect();
        self.hosted.insert(at, at);
        for root in below {
            self.join(root, at);
            self.hosted.remove(&root);
            for of in self.hosted.values_mut().filter(|of| **of == root) {
                *of = at;
            }
        }
        self.join(with, at);
        self.queue.push(at);
    }

    fn is_within(&self, at: usize, above: usize) -> bool {
        let mut at = at;
        while at != above {
            if at == 0 {
                return false;
            }
            at = self.items[at].parent;
        }
        true
    }

    /// The root of what is hosted that has the entry.
    fn root_of(&self, at: usize) -> Option<usize> {
        self.hosted.keys().copied().find(|root| self.is_within(at, *root))
    }

    /// Has both roots hosted in one process.
    fn join(&mut self, one: usize, other: usize) {
        let (Some(&one), Some(&other)) = (self.hosted.get(&one), self.hosted.get(&other)) else {
            return;
        };
        let (first, second) = (one.min(other), one.max(other));
        for of in self.hosted.values_mut().filter(|of| **of == second) {
            *of = first;
        }
    }

    /// Follows the references of all that is hosted.
    fn follow(&mut self) {
        while let Some(root) = self.queue.pop() {
            for at in self.below(root) {
                if let Kind::Reference(target) = &self.items[at].kind {
                    let target = target.clone();
                    if let Some(target) = self.resolve(&target, root, 0) {
                        self.require(target, root);
                    }
                }
            }
        }
    }

    /// The entry and all that are below it.
    fn below(&self, at: usize) -> Vec<usize> {
        let mut all = vec![at];
        let mut next = 0;
        while next < all.len() {
            all.extend_from_slice(&self.items[all[next]].children);
            next += 1;
        }
        all
    }

    /// The deepest entry on the way to `target`; what is below that, a driver makes.
    fn resolve(&mut self, target: &str, root: usize, hops: usize) -> Option<usize> {
        let mut at = 0;
        for segment in target.split('.') {
            at = self.past_references(at, root, hops)?;
            let children = self.items[at].children.iter().copied();
            let Some(child) = children.into_iter().find(|child| self.items[*child].name == segment)
            else {
                break;
            };
            at = child;
        }
        self.past_references(at, root, hops).filter(|at| *at != 0)
    }

    fn past_references(&mut self, at: usize, root: usize, hops: usize) -> Option<usize> {
        let Kind::Reference(onward) = &self.items[at].kind else { return Some(at) };
        if hops >= MAX_HOPS {
            return None;
        }
        let onward = onward.clone();
        self.aliases.insert((at, root));
        self.resolve(&onward, root, hops + 1)
    }

    /// Has the entry hosted with `root`.
    fn require(&mut self, at: usize, root: usize) {
        if let Some(owner) = self.root_of(at) {
            let root = self.root_of(root).unwrap_or(root);
            self.join(owner, root);
            return;
        }
        match self.items[at].kind {
            Kind::Group => {
                for child in self.items[at].children.clone() {
                    self.require(child, root);
                }
            }
            Kind::Native(..) | Kind::Foreign(_) => {
                let root = self.root_of(root).unwrap_or(root);
                self.host(at, root);
            }
            Kind::Reference(_) => {
                if let Some(target) = self.past_references(at, root, 0) {
                    self.require(target, root);
                }
            }
            Kind::Unclear => {}
        }
    }

    /// The roots of each process, both in the order of the file.
    fn processes(&self) -> Vec<Vec<usize>> {
        let mut roots: Vec<usize> = self.hosted.keys().copied().collect();
        roots.sort_unstable();
        let mut order: Vec<usize> = Vec::new();
        let mut processes: Vec<Vec<usize>> = Vec::new();
        for root in roots {
            let of = self.hosted[&root];
            match order.iter().position(|known| *known == of) {
                Some(index) => processes[index].push(root),
                None => {
                    order.push(of);
                    processes.push(vec![root]);
                }
            }
        }
        processes
    }

    /// All entries with a configuration, each with its process.
    fn owners<'b>(&'b self, processes: &'b [Vec<usize>]) -> impl Iterator<Item = Owner<'b>> {
        self.items.iter().enumerate().filter_map(|(at, item)| {
            let root = self.root_of(at);
            let process =
                root.and_then(|root| processes.iter().position(|roots| roots.contains(&root)));
            let config = &item.node.get("config")?.value;
            Some(Owner { process, place: &item.place, path: &item.path, config })
        })
    }

    /// The entries of a process, each at its place.
    fn tree(&self, process: &[usize]) -> Json {
        let mut tree = Map::new();
        let with = |root: usize| self.root_of(root).is_some_and(|root| process.contains(&root));
        let aliases =
            self.aliases.iter().filter(|(at, root)| self.root_of(*at).is_none() && with(*root));
        for at in process.iter().copied().chain(aliases.map(|(at, _)| *at)) {
            let mut way = vec![at];
            while let Some(&last) = way.last()
                && self.items[last].parent != 0
            {
                way.push(self.items[last].parent);
            }
            let mut level = &mut tree;
            while let Some(step) = way.pop() {
                let name = self.items[step].name.clone();
                if way.is_empty() {
                    level.insert(name, self.spec(at));
                    break;
                }
                let group = level.entry(name).or_insert_with(|| json!({"children": {}}));
                let Some(children) = group["children"].as_object_mut() else { break };
                level = children;
            }
        }
        Json::Object(tree)
    }

    /// An entry as the exporter in Python reads it.
    fn spec(&self, at: usize) -> Json {
        let item = &self.items[at];
        if let Kind::Reference(target) = &item.kind {
            return json!({"ref": target});
        }
        let children = item.children.iter();
        let children: Map<String, Json> =
            children.map(|child| (self.items[*child].name.clone(), self.spec(*child))).collect();
        let mut spec = json!({"children": children});
        if let Some(class) = item.class() {
            spec["type"] = class.into();
        }
        for key in ["description", "methods_description", "config"] {
            let value = item.node.get(key).map(|entry| entry.value.value.to_json());
            if let Some(value) = value.filter(|value| !value.is_null()) {
                spec[key] = value;
            }
        }
        spec
    }

    fn all_hosted(&self) -> Vec<usize> {
        let mut all: Vec<usize> = self.hosted.keys().flat_map(|root| self.below(*root)).collect();
        all.sort_unstable();
        all
    }

    fn hosted_entries(&self) -> Vec<HostedEntry> {
        let entry = |at: &usize| {
            let item = &self.items[*at];
            let kind = item.node.get("type")?.value.place;
            let config = item.node.get("config").map(|entry| entry.value.clone());
            let keys = config.iter().flat_map(|config| config.entries());
            Some(HostedEntry {
                class: item.class()?,
                keys: keys.map(|entry| entry.key.clone()).collect(),
                python: None,
                folder: None,
                path: item.path.clone(),
                kind,
                config,
            })
        };
        self.all_hosted().iter().filter_map(entry).collect()
    }

    /// Drivers that have to be in Python and are not.
    fn faults(&self) -> Vec<Fault> {
        let fault = |at: &usize| {
            let item = &self.items[*at];
            let Kind::Native(entry, asks) = &item.kind else { return None };
            if !entry.python_names.is_empty() {
                return None;
            }
            let kind = item.node.get("type")?.value.place;
            let root = self.root_of(*at)?;
            let wanting = self.hosted.iter().filter(|(other, of)| {
                **of == self.hosted[&root] && self.items[**other].is_wanted()
            });
            let wanting = wanting.map(|(other, _)| *other).min().unwrap_or(root);
            let (place, name) = (&item.place, entry.name);
            let (message, hint) = match asks {
                true => (
                    format!("`{name}` has no form in Python"),
                    "leave out `python: true`".to_owned(),
                ),
                false => (
                    format!(
                        "`{}` is a driver in Python and needs `{place}`, but `{name}` has no form in Python",
                        self.items[wanting].place
                    ),
                    format!("write a driver in Python for `{place}`"),
                ),
            };
            Some(Fault::new(kind, join(&item.path, "type"), message).hint(hint))
        };
        self.all_hosted().iter().filter_map(fault).collect()
    }
}
