//! A device before anything is opened: its tree and its methods.

use std::sync::Arc;

use crate::builtin::Composite;
use crate::descriptor::InterfaceDescriptor;
use crate::driver::{Child, Driver, PlannedChild};
use crate::interface::Interfaces;
use crate::node::Node;
use crate::plan::Planned;
use crate::tree;

/// Stands in for a driver that is not open.
struct Unopened {
    interfaces: Vec<&'static InterfaceDescriptor>,
    children: Vec<PlannedChild>,
}

impl Driver for Unopened {
    fn interfaces(&self) -> Interfaces<'_> {
        Interfaces::planned(&self.interfaces)
    }

    fn children(&self) -> Vec<Child> {
        let unopened = |planned: &PlannedChild| {
            let driver = Self { interfaces: planned.interfaces.clone(), children: Vec::new() };
            Child::new(&planned.name, Arc::new(driver))
        };
        self.children.iter().map(unopened).collect()
    }
}

/// The nodes; `None` if they are known only after opening.
pub(crate) fn nodes(entries: &[Planned]) -> Option<Vec<Node>> {
    let mut root = Child::new("", Arc::new(Composite));
    root.configured = children(entries)?;
    tree::flatten(root).ok()
}

fn children(entries: &[Planned]) -> Option<Vec<Child>> {
    entries.iter().map(child).collect()
}

fn child(entry: &Planned) -> Option<Child> {
    let mut child = tree::planned(entry);
    child.configured = children(entry.children())?;
    if let Some(driver) = entry.entry() {
        let interfaces = (driver.interfaces)();
        child.driver = Arc::new(Unopened { interfaces, children: entry.own_children()? });
    }
    Some(child)
}
