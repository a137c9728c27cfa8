//! An exporter's report as the nodes of a device.

use std::collections::HashMap;
use std::sync::Arc;

use jumpstarter_driver_core::device::RemoteNode;
use jumpstarter_driver_core::interface::{self, InterfaceDescriptor};
use jumpstarter_driver_core::{Error, Result};
use jumpstarter_protocol::labels::{CLIENT, INTERFACES, NAME};
use jumpstarter_protocol::v1::DriverInstanceReport;

use crate::caller::RemoteCaller;
use crate::connection::Connection;

/// The client class of a node that only holds others.
const COMPOSITE: &str = "jumpstarter_driver_composite.client.CompositeClient";

/// The nodes in the report's order: depth first, so that a node's parent is the last one before it with the parent's
/// uuid. (Proxies repeat their target's nodes, uuids included, in another place.)
pub(crate) fn nodes(
    connection: &Arc<Connection>,
    reports: Vec<DriverInstanceReport>,
) -> Result<Vec<RemoteNode>> {
    let mut last_with: HashMap<String, usize> = HashMap::new();
    let mut ids: HashMap<String, usize> = HashMap::new();
    let mut nodes = Vec::with_capacity(reports.len());
    for mut report in reports {
        let parent = report.parent_uuid.as_ref().filter(|uuid| !uuid.is_empty()).map(|uuid| {
            last_with.get(uuid).copied().ok_or_else(|| {
                Error::data_loss(format!(
                    "the exporter's report names a parent `{uuid}` that does not come before"
                ))
            })
        });
        let client = report.labels.remove(CLIENT).unwrap_or_default();
        let name = report.labels.remove(NAME).unwrap_or_default();
        let label = report.labels.remove(INTERFACES);
        let interfaces = interfaces(label.as_deref(), &client);
        let next = ids.len();
        let id = *ids.entry(report.uuid.clone()).or_insert(next);
        last_with.insert(report.uuid.clone(), nodes.len());
        let caller = RemoteCaller::new(
            connection.clone(),
            report.uuid,
            interfaces.clone().unwrap_or_default(),
            label.is_some(),
        );
        nodes.push(RemoteNode {
            id,
            name: if report.parent_uuid.is_some() { name } else { String::new() },
            parent: parent.transpose()?,
            description: report.description,
            methods_description: sorted(report.methods_description),
            client,
            labels: sorted(report.labels),
            interfaces,
            caller: Arc::new(caller),
        });
    }
    Ok(nodes)
}

/// What a node can do: as the exporter says, else as its client class tells; none where nothing is known.
fn interfaces(label: Option<&str>, client: &str) -> Option<Vec<&'static InterfaceDescriptor>> {
    if let Some(names) = label {
        let linked = interface::linked();
        let named = |name: &str| linked.iter().find(|interface| interface.name == name).copied();
        return Some(names.split(',').filter_map(named).collect());
    }
    let known = interface::of_client(client);
    (!known.is_empty() || client == COMPOSITE).then_some(known)
}

pub(crate) fn sorted(map: HashMap<String, String>) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = map.into_iter().collect();
    pairs.sort();
    pairs
}
