//! What an exporter file says of an `http`.

use std::net::TcpListener;

use jumpstarter_driver_core::Storage;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_storage::{FolderServer, serving};

use crate::driver::HttpServerDriver;

/// Serves the files of a folder to the device over HTTP.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpServerConfig {
    /// The folder that is served. It is made if it is missing.
    #[serde(default = "root_dir")]
    #[schemars(default = "written_root_dir")]
    pub(crate) root_dir: HostPath,
    /// The address or name to listen at; by default the address of this machine that its default
    /// route uses.
    #[serde(default)]
    pub(crate) host: Option<String>,
    /// The port to listen at; 0 for a free one.
    #[serde(default = "port")]
    pub(crate) port: u16,
    /// How many seconds a connection may be idle, and a request may take to arrive.
    #[serde(default = "timeout")]
    pub(crate) timeout: u64,
    /// Removes the files that were put into `storage` when the driver is closed.
    #[serde(default = "yes")]
    pub(crate) remove_created_on_close: bool,
}

const ROOT: &str = "/var/www";

fn root_dir() -> HostPath {
    ROOT.parse().expect("the default is a path")
}

fn written_root_dir() -> &'static str {
    ROOT
}

fn port() -> u16 {
    8080
}

fn timeout() -> u64 {
    600
}

fn yes() -> bool {
    true
}

#[async_trait]
impl DriverConfig for HttpServerConfig {
    const NAME: &'static str = "http";
    const PYTHON_NAMES: &'static [&'static str] = &["jumpstarter_driver_http.driver.HttpServer"];
    const SYNONYMS: &'static [(&'static str, &'static str)] =
        &[("root", "root_dir"), ("dir", "root_dir"), ("address", "host")];
    type Driver = HttpServerDriver;

    fn check(&self) -> Vec<ConfigProblem> {
        match self.timeout {
            0 => vec![
                ConfigProblem::new("timeout", "leaves a request no time")
                    .with_hint("write seconds, such as 600"),
            ],
            _ => Vec::new(),
        }
    }

    fn warnings(&self) -> Vec<ConfigProblem> {
        let mut found = serving::folder_problems("root_dir", &self.root_dir);
        let bind = |addresses: &[_]| TcpListener::bind(addresses).map(drop);
        found.extend(serving::port_problems(
            "port",
            self.host.as_deref().unwrap_or_default(),
            self.port,
            bind,
        ));
        found
    }

    fn children(&self) -> Option<Vec<PlannedChild>> {
        Some(vec![PlannedChild::new(FolderServer::STORAGE).with::<dyn Storage>()])
    }

    async fn open(self, _: OpenContext) -> Result<HttpServerDriver> {
        HttpServerDriver::open(self).await
    }
}
register_driver!(HttpServerConfig);
