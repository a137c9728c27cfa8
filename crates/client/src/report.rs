//! Converts an exporter's report to the nodes of a device.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jumpstarter_driver_core::{
    Caller, Device, Error, Flasher, Interface, InterfaceDescriptor, Node, Result, StorageMux,
};
use jumpstarter_protocol::labels::{CLIENT, CLIENT_BASES, INTERFACES, NAME};
use jumpstarter_protocol::python::{COMPOSITE_CLIENT, Implementation, STORAGE_MUX_CLIENT};
use jumpstarter_protocol::v1::DriverInstanceReport;

use crate::caller::RemoteCaller;
use crate::connection::Connection;
use crate::remote_driver::RemoteDriver;
use crate::storage_mux;

/// The most base classes of a client class that are looked at.
const MAX_BASES: usize = 32;

/// The nodes in the report's order: depth first, so that a node's parent is the last one before it
/// with the parent's uuid. (Proxies repeat their target's nodes, uuids included, in another place.)
pub(crate) fn nodes(
    connection: &Arc<Connection>,
    reports: Vec<DriverInstanceReport>,
) -> Result<Vec<Node>> {
    if reports.len() > Device::MAX_DRIVERS {
        let message =
            format!("it has {} drivers; {} are the most", reports.len(), Device::MAX_DRIVERS);
        return Err(Error::resource_exhausted(message));
    }
    let mut last_with: HashMap<String, usize> = HashMap::new();
    let mut ids: HashMap<String, usize> = HashMap::new();
    let mut nodes = Vec::with_capacity(reports.len());
    for mut report in reports {
        let parent = report.parent_uuid.as_ref().filter(|uuid| !uuid.is_empty()).map(|uuid| {
            last_with.get(uuid).copied().ok_or_else(|| {
                Error::data_loss(format!(
                    "it names a parent `{uuid:.64}` that does not come before"
                ))
            })
        });
        let implementation = Implementation::of_node(&report);
        let client = report.labels.remove(CLIENT).unwrap_or_default();
        let name = report.labels.remove(NAME).unwrap_or_default();
        let label = report.labels.remove(INTERFACES);
        let classes = classes(&client, report.labels.get(CLIENT_BASES).map(String::as_str));
        let (interfaces, unknown_interfaces) = interfaces(label.as_deref(), &classes);
        // This program has the documentation of the interfaces that it knows.
        let known = interfaces.as_deref().unwrap_or_default();
        let is_known = |name: &str| known.iter().any(|interface| interface.method(name).is_some());
        report
            .methods_description
            .retain(|form, _| form.split_once('(').is_none_or(|(name, _)| !is_known(name)));
        let next = ids.len();
        let id = *ids.entry(report.uuid.clone()).or_insert(next);
        last_with.insert(report.uuid.clone(), nodes.len());
        let caller: Arc<dyn Caller> = Arc::new(RemoteCaller(RemoteDriver::new(
            connection.clone(),
            report.uuid,
            interfaces.clone().unwrap_or_default(),
            implementation,
        )));
        let is_mux = label.is_none() && classes.contains(&STORAGE_MUX_CLIENT);
        let name = if report.parent_uuid.is_some() { name } else { String::new() };
        let caller = if is_mux { Arc::new(storage_mux::MuxCaller(caller)) } else { caller };
        let node = Node::remote(id, name, parent.transpose()?, caller)
            .with_descriptions(report.description, sorted(report.methods_description))
            .with_client(client)
            .with_labels(sorted(report.labels));
        nodes.push(match interfaces {
            Some(known) if label.is_none() => node.with_guessed_interfaces(known),
            Some(known) => node.with_interfaces(known, unknown_interfaces),
            None => node,
        });
    }
    Ok(nodes)
}

/// A node's client class, and the base classes of it that are reported.
fn classes<'a>(client: &'a str, bases: Option<&'a str>) -> Vec<&'a str> {
    let bases = bases.into_iter().flat_map(|bases| bases.split(','));
    std::iter::once(client).chain(bases.take(MAX_BASES)).collect()
}

/// A node's interfaces: as the exporter reports them, else those that its client classes imply;
/// `None` if nothing is known. With them, the names of reported interfaces that this program does
/// not know.
fn interfaces(
    label: Option<&str>,
    classes: &[&str],
) -> (Option<Vec<&'static InterfaceDescriptor>>, Vec<String>) {
    let Some(label) = label else {
        let mut known: Vec<&'static InterfaceDescriptor> = Vec::new();
        for class in classes {
            let implied = match *class {
                STORAGE_MUX_CLIENT => vec![<dyn Flasher>::DESCRIPTOR, <dyn StorageMux>::DESCRIPTOR],
                class => InterfaceDescriptor::of_client(class),
            };
            known.extend(implied);
        }
        let mut seen = HashSet::new();
        known.retain(|interface| seen.insert(interface.name));
        let is_told = !known.is_empty() || classes == [COMPOSITE_CLIENT];
        return (is_told.then_some(known), Vec::new());
    };
    let linked = InterfaceDescriptor::linked();
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for name in label.split(',').filter(|name| !name.is_empty()) {
        match linked.iter().find(|interface| interface.name == name) {
            Some(interface) => known.push(*interface),
            None => unknown.push(name.to_owned()),
        }
    }
    (Some(known), unknown)
}

pub(crate) fn sorted(map: HashMap<String, String>) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = map.into_iter().collect();
    pairs.sort();
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(
        label: Option<&str>,
        client: &str,
        expected: Option<&[&str]>,
        expected_unknown: &[&str],
    ) {
        let (client, bases) = client.split_once(':').map_or((client, None), |(c, b)| (c, Some(b)));
        let (known, unknown) = interfaces(label, &classes(client, bases));
        let known: Option<Vec<&str>> =
            known.map(|known| known.iter().map(|interface| interface.name).collect());
        assert_eq!(
            (known.as_deref(), unknown),
            (expected, expected_unknown.iter().map(|&name| name.to_owned()).collect())
        );
    }

    #[test]
    fn the_label_tells_also_what_is_not_known() {
        let power = "jumpstarter_driver_power.client.PowerClient";
        check(Some("power"), power, Some(&["power"]), &[]);
        check(Some("relay,power"), "acme.client.Relay", Some(&["power"]), &["relay"]);
        check(Some("relay"), "acme.client.Relay", Some(&[]), &["relay"]);
        check(Some(""), COMPOSITE_CLIENT, Some(&[]), &[]);
        check(None, power, Some(&["power"]), &[]);
        check(None, COMPOSITE_CLIENT, Some(&[]), &[]);
        check(None, "acme.client.Relay", None, &[]);
        check(None, "jumpstarter_driver_snmp.client.SNMPServerClient", Some(&["power"]), &[]);
        // Its flash is made by the client, of U-Boot's commands.
        check(None, "jumpstarter_driver_flashers.client.BaseFlasherClient", None, &[]);
        check(None, STORAGE_MUX_CLIENT, Some(&["flasher", "storage_mux"]), &[]);
        // After the colon, the bases of the client class.
        check(None, &format!("acme.client.Relay:acme.client.Base,{power}"), Some(&["power"]), &[]);
        let mux = format!("acme.client.Mux:{STORAGE_MUX_CLIENT},{COMPOSITE_CLIENT}");
        check(None, &mux, Some(&["flasher", "storage_mux"]), &[]);
        check(None, &format!("acme.client.Rack:{COMPOSITE_CLIENT}"), None, &[]);
        check(Some(""), &format!("acme.client.Relay:{power}"), Some(&[]), &[]);
    }
}
