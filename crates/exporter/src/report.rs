//! The report of a session: the tree from which clients build theirs.

use std::collections::HashMap;

use jumpstarter_driver_core::Node;
use jumpstarter_protocol::labels::{CLIENT, INTERFACES, NAME};
use jumpstarter_protocol::v1::{DriverInstanceReport, GetReportResponse};

use crate::Session;

/// The most bytes of help that a report adds for methods: Python clients refuse reports of 4 MiB.
const MAX_HELP_BYTES: usize = 1024 * 1024;

impl Session {
    /// The report: the device's drivers, their labels and methods.
    pub fn report(&self) -> GetReportResponse {
        let (nodes, ids) = (self.device().nodes(), &self.0.directory);
        let mut help_bytes = 0;
        let reports = nodes.iter().map(|node| {
            let mut labels: HashMap<String, String> = node.labels().iter().cloned().collect();
            labels.insert(CLIENT.to_owned(), node.client().to_owned());
            // What passes on calls says no more of itself than the other end does.
            if let Some(names) = node.interface_names().filter(|_| !node.interfaces_guessed()) {
                labels.insert(INTERFACES.to_owned(), names.join(","));
            }
            if node.parent().is_some() {
                labels.insert(NAME.to_owned(), node.name().to_owned());
            }
            DriverInstanceReport {
                uuid: ids.uuid(node).to_owned(),
                parent_uuid: node.parent().map(|parent| ids.uuid(&nodes[parent]).to_owned()),
                labels,
                description: node.description().filter(|text| !text.is_empty()).map(str::to_owned),
                methods_description: methods(node, &mut help_bytes),
            }
        });
        let name = self.0.options.name.iter().map(|name| (NAME.to_owned(), name.clone()));
        GetReportResponse {
            uuid: self.0.uuid.clone(),
            labels: name.collect(),
            reports: reports.collect(),
            alternative_endpoints: Vec::new(),
            motd: self.motd(),
        }
    }
}

/// Help for the methods of a node: what the exporter file and the driver say, by the method's name,
/// and what its interfaces say, by the method's form, such as `flash(source, target?)`. A client
/// that does not know an interface has its methods from there. The Python client takes names for
/// its commands' help and ignores forms.
///
/// A driver that describes other methods than its interfaces have, as scripts of a configuration,
/// has no methods for people besides.
fn methods(node: &Node, help_bytes: &mut usize) -> HashMap<String, String> {
    let mut methods: HashMap<_, _> = node.methods_description().iter().cloned().collect();
    let interfaces = node.interfaces();
    let is_listed = |name: &str| interfaces.iter().any(|one| one.method(name).is_some());
    let describes_others = methods.keys().any(|name| !name.contains('(') && !is_listed(name));
    if describes_others || node.interfaces_guessed() {
        return methods;
    }
    for method in interfaces.iter().flat_map(|interface| interface.methods) {
        let (form, summary) = (method.signature(), method.summary());
        *help_bytes += form.len() + summary.len();
        if *help_bytes <= MAX_HELP_BYTES {
            methods.insert(form, summary);
        }
    }
    methods
}
