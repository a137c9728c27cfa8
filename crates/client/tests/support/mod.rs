//! Exporters to connect to.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "these are helpers of tests")]

pub mod certificates;
pub mod process;
pub mod stub;

use std::time::Duration;

use jumpstarter_client::{ConnectOptions, Exporter, connect};
use jumpstarter_config::ExporterConfig;
use jumpstarter_driver_core::Device;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_flasher as _;
use jumpstarter_driver_network as _;
use jumpstarter_driver_power as _;
use jumpstarter_driver_serial as _;
use jumpstarter_exporter::{
    Access, Listener, LogHub, LogRecord, LogSource, Session, SessionOptions, serve,
};
use tokio_util::sync::CancellationToken;

pub const DEADLINE: Duration = Duration::from_secs(60);

/// What most tests connect to.
pub const FILE: &str = "
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: default, name: lab}
motd: be kind
export:
  power: {type: jumpstarter_driver_power.driver.MockPower, description: the mains}
  echo: {type: jumpstarter_driver_network.driver.EchoNetwork}
  serial: {type: jumpstarter_driver_pyserial.driver.PySerial, config: {url: 'loop://'}}
  flasher: {type: mock-flasher}
  rack: {children: {power: {type: jumpstarter_driver_power.driver.MockPower}}}
  alias: {ref: rack}
";

/// An exporter in this process.
pub struct Served {
    pub session: Session,
    pub address: String,
    pub logs: LogHub,
    folder: tempfile::TempDir,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<Result<()>>,
}

impl Served {
    pub async fn file(text: &str) -> Self {
        let config = ExporterConfig::parse(text, "test.yaml").unwrap();
        Self::unix(config.open().await.unwrap()).await
    }

    pub async fn unix(device: Device) -> Self {
        Self::at(device, None, Access::default()).await
    }

    /// Serves at a separate port, or at a Unix socket.
    pub async fn at(device: Device, tcp: Option<&str>, access: Access) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = match tcp {
            None => jumpstarter_exporter::Address::Unix(folder.path().join("socket")),
            Some(host) => {
                jumpstarter_exporter::Address::to_listen_at(&format!("{host}:0")).unwrap()
            }
        };
        let logs = LogHub::default();
        let options = SessionOptions::default()
            .name("lab")
            .motd("be kind")
            .stall_limit(Duration::from_secs(5))
            .logs(logs.clone());
        let session = Session::new(device, options).unwrap();
        let listener = Listener::bind(&address).await.unwrap();
        let address = listener.address().to_string();
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(session.clone(), listener, access, stop.clone()));
        Self { session, address, logs, folder, stop, server }
    }

    /// How to connect to it.
    pub fn options(&self) -> ConnectOptions {
        let options = ConnectOptions::new(self.address.parse().unwrap());
        if self.address.starts_with('/') { options } else { options.insecure() }
    }

    pub async fn connect(&self) -> Exporter {
        in_time(connect(&self.options())).await.unwrap()
    }

    /// Has it write a warning to its log.
    pub fn log(&self, message: &str) {
        log_to(&self.logs, message);
    }

    /// Ends it as `jmp run` does.
    pub async fn shut_down(self) {
        self.stop.cancel();
        self.session.shut_down();
        in_time(self.server).await.unwrap().unwrap();
        self.session.device().close().await.unwrap();
    }
}

pub fn log_to(logs: &LogHub, message: &str) {
    logs.publish(LogRecord::new(tracing::Level::WARN, LogSource::System, message));
}

pub async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it ends in time")
}
