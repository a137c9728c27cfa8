//! What an exporter file says of a `tftp`.

use std::net::UdpSocket;

use jumpstarter_driver_core::Storage;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_storage::{FolderServer, serving};

use crate::driver::TftpDriver;

/// Serves the files of a folder to the device over TFTP, read-only.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TftpConfig {
    /// The folder that is served. It is made if it is missing.
    #[serde(default = "root_dir")]
    #[schemars(default = "written_root_dir")]
    pub(crate) root_dir: HostPath,
    /// The address or name to listen at; by default the address of this machine that its default
    /// route uses.
    #[serde(default)]
    pub(crate) host: String,
    /// The port to listen at; 0 for a free one.
    #[serde(default = "port")]
    pub(crate) port: u16,
    /// Removes the files that were put into `storage` when the driver is closed.
    #[serde(default = "yes")]
    pub(crate) remove_created_on_close: bool,
}

const ROOT: &str = "/var/lib/tftpboot";

fn root_dir() -> HostPath {
    ROOT.parse().expect("the default is a path")
}

fn written_root_dir() -> &'static str {
    ROOT
}

fn port() -> u16 {
    69
}

fn yes() -> bool {
    true
}

#[async_trait]
impl DriverConfig for TftpConfig {
    const NAME: &'static str = "tftp";
    const PYTHON_NAMES: &'static [&'static str] = &["jumpstarter_driver_tftp.driver.Tftp"];
    const SYNONYMS: &'static [(&'static str, &'static str)] =
        &[("root", "root_dir"), ("dir", "root_dir"), ("address", "host")];
    type Driver = TftpDriver;

    fn warnings(&self) -> Vec<ConfigProblem> {
        let mut found = serving::folder_problems("root_dir", &self.root_dir);
        let bind = |addresses: &[_]| UdpSocket::bind(addresses).map(drop);
        found.extend(serving::port_problems("port", &self.host, self.port, bind));
        found
    }

    fn children(&self) -> Option<Vec<PlannedChild>> {
        Some(vec![PlannedChild::new(FolderServer::STORAGE).with::<dyn Storage>()])
    }

    async fn open(self, _: OpenContext) -> Result<TftpDriver> {
        TftpDriver::open(self).await
    }
}
register_driver!(TftpConfig);
