//! References of a tree (`ref: a.b.c`): their targets, and which are dangling or circular.
//!
//! A driver may make children (`qemu.power`) that a file does not show. Its configuration names
//! them; otherwise a reference below the driver is resolved when the device is opened.

use std::collections::HashMap;

use crate::bounds::{MAX_DEPTH, MAX_DRIVERS};
use crate::error::{Error, ErrorKind};
use crate::path::join;
use crate::suggest;

/// The longest chain of references.
const MAX_HOPS: usize = 32;

/// A tree of names, which may refer to others.
#[derive(Debug)]
pub struct References {
    places: Vec<Place>,
    by_path: HashMap<String, usize>,
}

#[derive(Debug)]
struct Place {
    path: String,
    kind: PlaceKind,
    children: Vec<usize>,
}

/// The kind of a place in the tree.
#[derive(Debug)]
pub enum PlaceKind {
    /// A group, or a driver whose children are all known.
    Known,
    /// A driver whose children are known only after opening it, or a faulty entry.
    Unknown,
    /// A reference to a dotted path from the root.
    Reference(String),
}

/// The fault of one reference.
#[derive(Debug)]
pub struct ReferenceFault {
    /// The number of the reference, as [`References::add`] gave it.
    pub index: usize,
    /// The dotted path of the reference itself, not of its target.
    pub path: String,
    /// The kind of the error, as opening the device would report it.
    pub kind: ErrorKind,
    /// The error's message.
    pub message: String,
    /// The error's hint.
    pub hint: Option<String>,
}

impl From<ReferenceFault> for Error {
    fn from(fault: ReferenceFault) -> Self {
        let error =
            Error::new(fault.kind, format!("the reference `{}`: {}", fault.path, fault.message));
        match fault.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

/// The target of a reference.
enum Target {
    Place(usize),
    /// Below a driver: known after it is opened.
    WhenOpen,
}

enum Failure {
    Dangling,
    Circle,
}

impl Default for References {
    fn default() -> Self {
        Self::new()
    }
}

impl References {
    /// The root of a device, without children.
    pub fn new() -> Self {
        let root = Place { path: String::new(), kind: PlaceKind::Known, children: Vec::new() };
        Self { places: vec![root], by_path: HashMap::from([(String::new(), 0)]) }
    }

    /// Adds a place under `parent` (0 is the root) and returns its number: the next one.
    pub fn add(&mut self, parent: usize, name: &str, kind: PlaceKind) -> usize {
        let index = self.places.len();
        let above = &mut self.places[parent];
        above.children.push(index);
        let path = join(&above.path, name);
        self.by_path.entry(path.clone()).or_insert(index);
        self.places.push(Place { path, kind, children: Vec::new() });
        index
    }

    /// Whether there are more drivers than a device may have, without following references.
    pub fn is_too_large(&self) -> bool {
        self.places.len() > MAX_DRIVERS
    }

    /// Returns the faults of all references.
    pub fn faults(&self) -> Vec<ReferenceFault> {
        let state = vec![State::New; self.places.len()];
        let mut walk = Walk { references: self, state, trail: vec![], faults: vec![] };
        walk.size(0);
        walk.faults
    }

    /// Whether the place is a reference.
    pub(crate) fn is_reference(&self, index: usize) -> bool {
        matches!(self.places[index].kind, PlaceKind::Reference(_))
    }

    /// The place that a reference without faults names; it may be another reference.
    pub(crate) fn target(&self, index: usize) -> Option<usize> {
        let PlaceKind::Reference(target) = &self.places[index].kind else { return None };
        match self.resolve(target, 0) {
            Ok(Target::Place(target)) => Some(target),
            Ok(Target::WhenOpen) | Err(_) => None,
        }
    }

    fn resolve(&self, target: &str, hops: usize) -> Result<Target, Failure> {
        if let Some(index) = self.by_path.get(target) {
            return Ok(Target::Place(*index));
        }
        // It is below another reference, and therefore below that one's target.
        let mut current = 0;
        for segment in target.split('.') {
            for hop in hops.. {
                let PlaceKind::Reference(onward) = &self.places[current].kind else { break };
                if hop >= MAX_HOPS {
                    return Err(Failure::Circle);
                }
                match self.resolve(onward, hop + 1)? {
                    Target::Place(next) => current = next,
                    Target::WhenOpen => return Ok(Target::WhenOpen),
                }
            }
            let place = &self.places[current];
            match self.by_path.get(&join(&place.path, segment)) {
                Some(child) => current = *child,
                None if matches!(place.kind, PlaceKind::Unknown) => return Ok(Target::WhenOpen),
                None => return Err(Failure::Dangling),
            }
        }
        Ok(Target::Place(current))
    }
}

#[derive(Clone, Copy)]
enum State {
    New,
    Open,
    Done(usize),
}

/// A walk down the tree through its references.
struct Walk<'a> {
    references: &'a References,
    state: Vec<State>,
    trail: Vec<usize>,
    faults: Vec<ReferenceFault>,
}

impl Walk<'_> {
    /// The number of drivers at and below `index`, references followed.
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
        let place = &self.references.places[index];
        let mut size: usize = 1;
        if let PlaceKind::Reference(target) = &place.kind {
            match self.references.resolve(target, 0) {
                Ok(Target::Place(next)) if self.trail.len() < MAX_DEPTH => size = self.size(next),
                Ok(Target::WhenOpen) => {}
                Err(Failure::Dangling) => self.dangling(index, target),
                Ok(Target::Place(_)) => self.fault(index, "references lead too deep"),
                Err(Failure::Circle) => {
                    let message =
                        format!("references lead in a circle: `{}` → `{target}`", place.path);
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
        for child in &place.children {
            size = size.saturating_add(self.size(*child));
        }
        self.trail.pop();
        self.state[index] = State::Done(size);
        size
    }

    fn circle(&mut self, index: usize) {
        let places = &self.references.places;
        let start = self.trail.iter().position(|at| *at == index).unwrap_or(0);
        let is_reference = |at: &&usize| self.references.is_reference(**at);
        let mut names: Vec<String> = self.trail[start..]
            .iter()
            .filter(is_reference)
            .map(|at| format!("`{}`", places[*at].path))
            .collect();
        names.push(format!("`{}`", places[index].path));
        if let Some(first) = self.trail[start..].iter().find(is_reference).copied() {
            self.fault(first, format!("references lead in a circle: {}", names.join(" → ")));
        }
    }

    fn dangling(&mut self, index: usize, target: &str) {
        let places = &self.references.places;
        let path = &places[index].path;
        let others = places
            .iter()
            .map(|other| other.path.as_str())
            .filter(|other| !other.is_empty() && other != path);
        let hint = match others.clone().next() {
            Some(_) => suggest::hint(target, others),
            None => "there is nothing else to refer to".to_owned(),
        };
        self.faults.push(ReferenceFault {
            index,
            path: path.clone(),
            kind: ErrorKind::NotFound,
            message: format!("nothing is at `{target}`"),
            hint: Some(hint),
        });
    }

    fn fault(&mut self, index: usize, message: impl Into<String>) {
        self.faults.push(ReferenceFault {
            index,
            path: self.references.places[index].path.clone(),
            kind: ErrorKind::InvalidArgument,
            message: message.into(),
            hint: None,
        });
    }
}
