//! The ids and the categories of a session's drivers.

use std::collections::HashMap;

use jumpstarter_driver_core::Node;
use jumpstarter_driver_core::{Device, Result};

use crate::id;

#[derive(Debug)]
pub(crate) struct Directory {
    /// The id of each driver, by its number: a proxy shares its target's.
    uuids: Vec<String>,
    by_uuid: HashMap<String, usize>,
    /// The category of each driver, by its number.
    categories: Vec<&'static str>,
}

impl Directory {
    /// # Errors
    /// `Internal` if the system has no random numbers.
    pub(crate) fn new(device: &Device) -> Result<Self> {
        let count = device.nodes().iter().map(Node::id).max().map_or(0, |id| id + 1);
        let uuids = (0..count).map(|_| id::random()).collect::<Result<Vec<_>>>()?;
        // The first node with an id is the driver itself or its proxy: both call the same driver.
        let mut by_uuid = HashMap::new();
        let mut categories = vec!["other"; count];
        for (index, node) in device.nodes().iter().enumerate() {
            by_uuid.entry(uuids[node.id()].clone()).or_insert_with(|| {
                let has_children = device.nodes().iter().any(|other| other.parent() == Some(index));
                categories[node.id()] = category(node, has_children);
                index
            });
        }
        Ok(Self { uuids, by_uuid, categories })
    }

    pub(crate) fn uuid(&self, node: &Node) -> &str {
        &self.uuids[node.id()]
    }

    pub(crate) fn category(&self, node: &Node) -> &'static str {
        self.categories[node.id()]
    }

    /// The index of the node with that id.
    pub(crate) fn find(&self, uuid: &str) -> Option<usize> {
        self.by_uuid.get(uuid).copied()
    }
}

/// The categories of drivers by their interfaces, as the exporter in Python has them.
const CATEGORIES: [(&str, &str); 5] = [
    ("power", "power"),
    ("flasher", "storage"),
    ("storage_mux", "storage"),
    ("serial", "serial"),
    ("network", "network"),
];

fn category(node: &Node, has_children: bool) -> &'static str {
    let has = |name: &str| node.interfaces().iter().any(|interface| interface.name == name);
    let by_interface =
        CATEGORIES.iter().find(|(interface, _)| has(interface)).map(|(_, category)| *category);
    by_interface.unwrap_or(if has_children { "composite" } else { "other" })
}
