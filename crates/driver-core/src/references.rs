//! References of a tree (`ref: a.b.c`): where each leads, and which lead nowhere or in a circle.
//!
//! A driver may make children by itself (`qemu.power`), which a file does not show. Its
//! configuration names them; where it cannot, a reference below the driver is left to opening the
//! device, as far as nothing is known.

use std::collections::HashMap;

use crate::bounds::{MAX_DEPTH, MAX_DRIVERS};
use crate::error::{Error, ErrorKind};
use crate::path::join;
use crate::suggest;

/// How many references may lead to one another.
const MAX_HOPS: usize = 32;

/// A tree of names, some of which refer to others.
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

/// What stands at a path.
#[derive(Debug)]
pub enum PlaceKind {
    /// A group, or a driver whose children are all known.
    Known,
    /// A driver whose children only opening it tells, or an entry that is wrong itself.
    Unknown,
    /// A reference to a dotted path from the root.
    Reference(String),
}

/// What is wrong with one reference.
#[derive(Debug)]
pub struct ReferenceFault {
    /// The number of the reference, as [`References::add`] gave it.
    pub index: usize,
    /// Its path.
    pub path: String,
    /// The kind of the error.
    pub kind: ErrorKind,
    /// What is wrong with it.
    pub message: String,
    /// What to do about it.
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

/// Where a reference leads.
enum Target {
    Place(usize),
    /// Below a driver: known once that is open.
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

    /// Whether there are more drivers than a device may have, before any reference is followed.
    pub fn is_too_large(&self) -> bool {
        self.places.len() > MAX_DRIVERS
    }

    /// What is wrong with the references.
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

    /// Where a reference without faults leads; it may be another reference.
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
        // It is below another reference, and therefore below what that one refers to.
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
    /// How many drivers there are at and below `index`, references followed.
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
