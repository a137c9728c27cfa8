//! The device of an exporter file as it is before anything is opened: what it is made of and what can be said to it.

use std::sync::Arc;

use crate::builtin::{COMPOSITE_TYPE, Composite};
use crate::config::{ExporterConfig, Node as ConfigNode};
use crate::device::Node;
use crate::driver::{Child, Driver, PlannedChild};
use crate::interface::{InterfaceDescriptor, Interfaces};
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
pub(crate) fn nodes(config: &ExporterConfig) -> Option<Vec<Node>> {
    let mut root = Child::new("", Arc::new(Composite));
    root.configured = children(&config.export)?;
    tree::flatten(root).ok()
}

fn children(entries: &[(String, ConfigNode)]) -> Option<Vec<Child>> {
    entries.iter().map(|(name, entry)| child(name, entry)).collect()
}

fn child(name: &str, entry: &ConfigNode) -> Option<Child> {
    let mut child = Child::new(name, Arc::new(Composite));
    match entry {
        ConfigNode::Proxy { target, description } => {
            child.reference = Some(target.clone());
            child.description.clone_from(description);
        }
        ConfigNode::Composite { description, children: below } => {
            child.description.clone_from(description);
            child.driver_type = Some(COMPOSITE_TYPE);
            child.configured = children(below)?;
        }
        ConfigNode::Driver { entry, description, methods_description, config, children: below, .. } => {
            child.description.clone_from(description);
            child.methods_description.clone_from(methods_description);
            child.driver_type = Some(entry.type_name());
            let made = (entry.children)(config.clone())?;
            child.driver = Arc::new(Unopened { interfaces: (entry.interfaces)(), children: made });
            child.configured = children(below)?;
        }
    }
    Some(child)
}
