//! A device as it is before anything is opened: what it is made of and what
//! can be said to it.

use std::sync::Arc;

use crate::builtin::Composite;
use crate::descriptor::InterfaceDescriptor;
use crate::device::Node;
use crate::driver::{Child, Driver, PlannedChild};
use crate::interface::Interfaces;
use crate::plan::Node as ConfigNode;
use crate::tree;

/// Stands for a driver that is not open.
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

/// The nodes; none where only opening tells which they are.
pub(crate) fn nodes(entries: &[(String, ConfigNode)]) -> Option<Vec<Node>> {
    let mut root = Child::new("", Arc::new(Composite));
    root.configured = children(entries)?;
    tree::flatten(root).ok()
}

fn children(entries: &[(String, ConfigNode)]) -> Option<Vec<Child>> {
    entries.iter().map(|(name, entry)| child(name, entry)).collect()
}

fn child(name: &str, entry: &ConfigNode) -> Option<Child> {
    let mut child = tree::planned(name, entry);
    match entry {
        ConfigNode::Proxy { .. } => {}
        ConfigNode::Composite { children: below, .. } => child.configured = children(below)?,
        ConfigNode::Driver { entry, config, children: below, .. } => {
            let made = (entry.children)(config.clone())?;
            child.driver = Arc::new(Unopened { interfaces: (entry.interfaces)(), children: made });
            child.configured = children(below)?;
        }
    }
    Some(child)
}
