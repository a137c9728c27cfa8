//! An exporter in the test's own process: for drivers that the test links, and `j` does not.

use jumpstarter_driver_core::Device;
use jumpstarter_exporter::{Access, Address, Listener, Session, SessionOptions, serve};
use jumpstarter_supervise::{Command, Input, run_unchecked};
use tokio_util::sync::CancellationToken;

use crate::lab::{clean, transcript};
use crate::terminal::{DEADLINE, J, Lab};

/// A device that is served.
pub(crate) struct Served {
    pub(crate) lab: Lab,
    stop: CancellationToken,
}

impl Served {
    pub(crate) async fn device(device: Device) -> Self {
        let lab = Lab::new("");
        let session = Session::new(device, SessionOptions::default()).unwrap();
        let listener = Listener::bind(&Address::Unix(lab.path("s"))).await.unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(serve(session, listener, Access::default(), stop.clone()));
        Self { lab, stop }
    }

    /// Runs `j` with these words and this standard input in a separate process, and returns the
    /// transcript.
    pub(crate) async fn j_with(&self, words: &[&str], input: &[u8]) -> String {
        let command =
            clean(Command::new(J)).args(words).env("JUMPSTARTER_HOST", self.lab.path("s"));
        let command = command.current_dir(self.lab.folder()).stdin(Input::Bytes(input.to_vec()));
        self.lab.plain(&transcript(&run_unchecked(command, DEADLINE).await.unwrap()))
    }

    /// What `j` with these words prints, as a transcript. It runs in this process.
    pub(crate) async fn j(&self, words: &[&str]) -> String {
        let host = self.lab.path("s").into_os_string().into_string().unwrap();
        self.lab.j(&host, words).await
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
