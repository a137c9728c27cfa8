//! Whether the proxies of a file (`ref: a.b.c`) lead somewhere, and not in a circle.
//!
//! A driver may make children by itself (`qemu.power`), which a file does not show. Its
//! configuration names them; where it cannot, a reference below the driver is left to opening the
//! device, as far as the file says nothing about it.

use jumpstarter_driver_core::bounds::{MAX_DEPTH, MAX_DRIVERS};
use jumpstarter_driver_core::suggest;

use super::fault::{Fault, Place};

/// How many proxies may lead to one another.
const MAX_HOPS: usize = 32;

/// The tree of a file, for following references.
pub(super) struct References {
    nodes: Vec<Node>,
}

struct Node {
    path: String,
    kind: Kind,
    children: Vec<(String, usize)>,
}

/// What stands at a path.
pub(super) enum Kind {
    /// A group, or a driver whose children are all known.
    Group,
    /// A driver whose children only opening it tells, or an entry that is wrong itself.
    Driver,
    /// A proxy.
    Proxy(Reference),
}

/// What a proxy refers to and where that is written.
pub(super) struct Reference {
    /// The dotted path of the target.
    pub(super) target: String,
    /// The place of the target's path in the file.
    pub(super) place: Place,
    /// The keys that lead to that place.
    pub(super) at: String,
}

/// Where a reference leads.
enum Target {
    Node(usize),
    /// Below a driver: known once that is open.
    WhenOpen,
}

enum Failure {
    Dangling,
    Circle,
}

impl References {
    /// The root of a device, without children.
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node { path: String::new(), kind: Kind::Group, children: Vec::new() }] }
    }

    /// Adds a node under `parent` (0 is the root) and answers its number.
    pub(super) fn add(&mut self, parent: usize, name: &str, kind: Kind) -> usize {
        let index = self.nodes.len();
        let above = &mut self.nodes[parent];
        above.children.push((name.to_owned(), index));
        let path = jumpstarter_driver_core::tree::join(&above.path, name);
        self.nodes.push(Node { path, kind, children: Vec::new() });
        index
    }

    /// Whether there are more drivers than a device may have, before any reference is followed.
    pub(super) fn is_too_large(&self) -> bool {
        self.nodes.len() > MAX_DRIVERS
    }

    /// What is wrong with the references.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let mut walk = Walk {
            references: self,
            state: vec![State::New; self.nodes.len()],
            trail: vec![],
            faults: vec![],
        };
        walk.size(0);
        walk.faults
    }

    fn resolve(&self, target: &str, hops: usize) -> Result<Target, Failure> {
        let mut current = 0;
        for segment in target.split('.') {
            for hop in hops.. {
                let Kind::Proxy(onward) = &self.nodes[current].kind else { break };
                if hop >= MAX_HOPS {
                    return Err(Failure::Circle);
                }
                match self.resolve(&onward.target, hop + 1)? {
                    Target::Node(next) => current = next,
                    Target::WhenOpen => return Ok(Target::WhenOpen),
                }
            }
            let node = &self.nodes[current];
            match node.children.iter().find(|(name, _)| name == segment) {
                Some((_, child)) => current = *child,
                None if matches!(node.kind, Kind::Driver) => return Ok(Target::WhenOpen),
                None => return Err(Failure::Dangling),
            }
        }
        Ok(Target::Node(current))
    }

    fn dangling(&self, node: &Node, reference: &Reference) -> Fault {
        let target = reference.target.as_str();
        let others =
            self.nodes.iter().filter(|other| !other.path.is_empty() && other.path != node.path);
        let hint = match others.clone().next() {
            Some(_) => suggest::hint(target, others.map(|other| other.path.as_str())),
            None => "the file has no other entry".to_owned(),
        };
        Fault::new(reference.place, &reference.at, format!("nothing in this file is at `{target}`"))
            .hint(hint)
    }
}

#[derive(Clone, Copy)]
enum State {
    New,
    Open,
    Done(usize),
}

/// A walk down the tree through its proxies.
struct Walk<'a> {
    references: &'a References,
    state: Vec<State>,
    trail: Vec<usize>,
    faults: Vec<Fault>,
}

impl Walk<'_> {
    /// How many nodes there are at and below `index`, proxies followed.
    fn size(&mut self, index: usize) -> usize {
        match self.state[index] {
            State::Done(size) => return size,
            State::Open => {
                self.circle(index);
                return 0;
            }
            State::New => self.state[index] = State::Open,
        }
        self.trail.push(index);
        let node = &self.references.nodes[index];
        let mut size: usize = 1;
        if let Kind::Proxy(reference) = &node.kind {
            match self.references.resolve(&reference.target, 0) {
                Ok(Target::Node(next)) if self.trail.len() < MAX_DEPTH => size = self.size(next),
                Ok(Target::WhenOpen) => {}
                Err(Failure::Dangling) => {
                    self.faults.push(self.references.dangling(node, reference))
                }
                Ok(Target::Node(_)) => self.fault(index, "references lead too deep"),
                Err(Failure::Circle) => {
                    let message = format!(
                        "references lead in a circle: `{}` → `{}`",
                        node.path, reference.target
                    );
                    self.fault(index, message);
                }
            }
            if size > MAX_DRIVERS {
                self.fault(
                    index,
                    format!("this reference makes the tree larger than {MAX_DRIVERS} drivers"),
                );
                size = 1;
            }
        }
        for (_, child) in &node.children {
            size = size.saturating_add(self.size(*child));
        }
        self.trail.pop();
        self.state[index] = State::Done(size);
        size
    }

    fn circle(&mut self, index: usize) {
        let nodes = &self.references.nodes;
        let start = self.trail.iter().position(|at| *at == index).unwrap_or(0);
        let is_proxy = |at: &&usize| matches!(nodes[**at].kind, Kind::Proxy(..));
        let mut names: Vec<String> = self.trail[start..]
            .iter()
            .filter(is_proxy)
            .map(|at| format!("`{}`", nodes[*at].path))
            .collect();
        names.push(format!("`{}`", nodes[index].path));
        if let Some(first) = self.trail[start..].iter().find(is_proxy).copied() {
            self.fault(first, format!("references lead in a circle: {}", names.join(" → ")));
        }
    }

    fn fault(&mut self, index: usize, message: impl Into<String>) {
        let node = &self.references.nodes[index];
        if let Kind::Proxy(reference) = &node.kind {
            self.faults.push(Fault::new(reference.place, &reference.at, message));
        }
    }
}
