//! An exporter in a separate process, which can be killed.
//!
//! That process is this test program again: the test `the_exporter_process`, which serves when it
//! is asked to.

use std::sync::Mutex;

use jumpstarter_client::{ConnectOptions, Exporter, connect};
use jumpstarter_driver_core::Device;
use jumpstarter_exporter::{Access, Address, Listener, Session, SessionOptions, serve};
use jumpstarter_supervise::{Child, Command, Signal, Sink};
use tokio_util::sync::CancellationToken;

use super::in_time;
use super::stub::Stub;

const ADDRESS: &str = "JUMPSTARTER_TEST_EXPORTER_AT";
const READY: &str = "the exporter listens at ";

/// The whole of the test `the_exporter_process`.
pub async fn serve_if_asked() {
    let Ok(address) = std::env::var(ADDRESS) else { return };
    let address = match address.starts_with('/') {
        true => Address::Unix(address.into()),
        false => Address::to_listen_at(&address).unwrap(),
    };
    let session =
        Session::new(Device::of_driver(Stub::default()), SessionOptions::default()).unwrap();
    let listener = Listener::bind(&address).await.unwrap();
    println!("\n{READY}{}", listener.address());
    serve(session, listener, Access::default(), CancellationToken::new()).await.unwrap();
}

pub struct Process {
    pub address: String,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Process {
    pub async fn on_a_unix_socket() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        Self::at(socket.to_str().unwrap(), folder).await
    }

    pub async fn on_tcp() -> Self {
        Self::at("127.0.0.1:0", tempfile::tempdir().unwrap()).await
    }

    async fn at(address: &str, folder: tempfile::TempDir) -> Self {
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let ready = Mutex::new(Some(ready));
        let lines = Sink::lines(move |line| {
            if let Some((_, address)) = line.split_once(READY)
                && let Some(ready) = ready.lock().unwrap().take()
            {
                ready.send(address.to_owned()).ok();
            }
        });
        let command = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_exporter_process", "--nocapture"])
            .env(ADDRESS, address)
            .stdout(lines);
        let child = command.spawn().await.unwrap();
        let address = in_time(is_ready).await.unwrap();
        Self { address, child, _folder: folder }
    }

    pub fn options(&self) -> ConnectOptions {
        ConnectOptions::new(self.address.parse().unwrap()).insecure()
    }

    pub async fn connect(&self) -> Exporter {
        in_time(connect(&self.options())).await.unwrap()
    }

    /// As `kill -9` does.
    pub async fn kill(&self) {
        assert!(self.child.signal(Signal::KILL));
        in_time(self.child.wait()).await;
    }

    /// Has it do nothing any more, while the system still answers for it.
    pub fn freeze(&self) {
        assert!(self.child.signal(Signal::STOP));
    }
}
