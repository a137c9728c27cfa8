//! The report of a session: the tree from which clients build theirs.

use std::collections::HashMap;

use jumpstarter_protocol::labels::{CLIENT, INTERFACES, NAME};
use jumpstarter_protocol::v1::{DriverInstanceReport, GetReportResponse};

use crate::Session;

impl Session {
    pub(crate) fn report(&self) -> GetReportResponse {
        let (nodes, ids) = (self.device().nodes(), &self.0.directory);
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
                methods_description: node.methods_description().iter().cloned().collect(),
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
