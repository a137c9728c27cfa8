//! `jmp run` at its smallest, with the generic drivers: what the tests start, signal and kill.
//!
//! `serve FILE SOCKET [PASSPHRASE]` serves the device of an exporter file at a Unix socket, and
//! with a passphrase at a port too. `serve FILE` joins the controller of the file, and serves
//! metrics. It says so, and where, and logs to standard error.
#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a program for tests: it says when it is ready, or stops"
)]

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use jumpstarter_config::ExporterConfig;
use jumpstarter_daemon::{Log, LogFormat, Ready, RunOptions, run};
use jumpstarter_driver_core::Secret;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_exporter::{Access, Address};

use jumpstarter_driver_flasher as _;
use jumpstarter_driver_network as _;
use jumpstarter_driver_power as _;
use jumpstarter_driver_serial as _;

/// A driver that writes down its resets.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ResetProbe {
    /// Where each reset leaves a line.
    file: PathBuf,
}

#[async_trait]
impl DriverConfig for ResetProbe {
    const NAME: &'static str = "reset-probe";
    type Driver = Self;

    async fn open(self, _: OpenContext) -> Result<Self> {
        Ok(self)
    }
}
register_driver!(ResetProbe);

#[async_trait]
impl Driver for ResetProbe {
    async fn reset(&self) -> Result<()> {
        let mut file = File::options().create(true).append(true).open(&self.file)?;
        writeln!(file, "reset").context("writing the reset down")
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let (file, sockets, passphrase) = match arguments.as_slice() {
        [_, file] => (file, None, &[][..]),
        [_, file, socket, passphrase @ ..] => (file, Some(socket), passphrase),
        _ => panic!("usage: serve FILE [SOCKET [PASSPHRASE]]"),
    };
    let joins = sockets.is_none();
    let mut listen: Vec<_> =
        sockets.map(|socket| Address::Unix(socket.into())).into_iter().collect();
    if !passphrase.is_empty() {
        listen.push(Address::to_listen_at("127.0.0.1:0").expect("it is an address"));
    }
    let log = Log::install(tracing::Level::INFO, LogFormat::Text).expect("this is the first log");
    let config = ExporterConfig::load(file).expect("the exporter file is right");
    let secret = passphrase.first().map(|text| Secret::new(text.as_str()));
    let options = RunOptions::new(config)
        .listen(listen)
        .metrics(joins.then_some(SocketAddr::from(([127, 0, 0, 1], 0))))
        .insecure(secret.is_some())
        .access(Access::default().passphrase(secret))
        .logs(log.hub().clone());
    let ready = |ready: Ready<'_>| {
        match ready {
            Ready::Listening([_, tcp, ..]) => println!("ready {}", tcp.url()),
            _ => println!("ready"),
        }
        Ok(())
    };
    match run(options, ready).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = error.report(), "the exporter failed");
            ExitCode::FAILURE
        }
    }
}
