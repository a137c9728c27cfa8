//! Exporters to connect to.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "these are helpers of tests")]

pub mod lab;

use std::path::Path;
use std::time::Duration;

use jumpstarter_client::{ConnectOptions, Exporter, connect};
use jumpstarter_config::ExporterConfig;
use jumpstarter_driver_core::Device;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_flasher as _;
use jumpstarter_driver_network as _;
use jumpstarter_driver_power as _;
use jumpstarter_driver_python as _;
use jumpstarter_exporter::{
    Access, Address, Listener, LogHub, LogRecord, LogSource, Session, SessionOptions, serve,
};
use tokio_util::sync::CancellationToken;

pub const DEADLINE: Duration = Duration::from_secs(60);

/// An exporter in this process, on a Unix socket.
pub struct Served {
    pub session: Session,
    pub logs: LogHub,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<Result<()>>,
}

impl Served {
    pub async fn file(text: &str, socket: &Path) -> Self {
        let config = ExporterConfig::parse(text, "test.yaml").unwrap_or_else(|faults| {
            panic!("{faults}");
        });
        Self::device(config.open().await.unwrap(), socket).await
    }

    pub async fn device(device: Device, socket: &Path) -> Self {
        let listener = Listener::bind(&Address::Unix(socket.to_owned())).await.unwrap();
        Self::listening(device, listener, Access::default())
    }

    /// On a port of this machine, which it returns.
    pub async fn on_tcp(text: &str, access: Access) -> (Self, u16) {
        let device = ExporterConfig::parse(text, "test.yaml").unwrap().open().await.unwrap();
        let listener =
            Listener::bind(&Address::Tcp { host: "127.0.0.1".to_owned(), port: 0 }).await.unwrap();
        let Address::Tcp { port, .. } = *listener.address() else { panic!("it has a port") };
        (Self::listening(device, listener, access), port)
    }

    fn listening(device: Device, listener: Listener, access: Access) -> Self {
        let logs = LogHub::default();
        let session = Session::new(device, SessionOptions::default().logs(logs.clone())).unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(session.clone(), listener, access, stop.clone()));
        Self { session, logs, stop, server }
    }

    /// Ends it like `jmp run` does.
    pub async fn shut_down(self) {
        self.stop.cancel();
        self.session.shut_down();
        in_time(self.server).await.unwrap().unwrap();
        self.session.device().close().await.unwrap();
    }

    /// Writes a warning to its log.
    pub fn log(&self, message: &str) {
        self.logs.publish(LogRecord::new(tracing::Level::WARN, LogSource::System, message));
    }
}

pub async fn client(socket: &Path) -> Exporter {
    let options = ConnectOptions::to(socket.to_str().unwrap()).unwrap();
    in_time(connect(&options)).await.unwrap()
}

pub async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it ends in time")
}
