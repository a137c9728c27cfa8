//! An entry that is hosted, for checks that ask its class.

use std::path::PathBuf;

use super::fault::{Fault, Place, join};
use super::yaml;

/// A hosted entry of an exporter file; [`ExporterConfig::hosted`](crate::ExporterConfig::hosted)
/// lists them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HostedEntry {
    /// The import path of its class.
    pub class: String,
    /// The keys of its `config`.
    pub keys: Vec<String>,
    /// The interpreter that the file names.
    pub python: Option<String>,
    /// The folder of the file.
    pub folder: Option<PathBuf>,
    pub(super) path: String,
    pub(super) kind: Place,
    pub(super) config: Option<yaml::Node>,
}

impl HostedEntry {
    /// What is wrong with its class, or with a key of its `config`.
    pub fn fault(&self, key: Option<&str>, message: &str, hint: Option<String>) -> Fault {
        let mut fault = match (key, &self.config) {
            (Some(key), Some(config)) => {
                let place = config.get(key).map_or(config.place, |entry| entry.place);
                Fault::new(place, join(&join(&self.path, "config"), key), message)
            }
            (Some(key), None) => {
                Fault::new(self.kind, join(&join(&self.path, "config"), key), message)
            }
            (None, _) => Fault::new(self.kind, join(&self.path, "type"), message),
        };
        fault.hint = hint;
        fault
    }
}
