//! `storage-mux`: a multiplexer that programs of the exporter's host switch.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::storage::{dump_medium, flash_medium};
use jumpstarter_supervise::run;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::{Instant, timeout_at};

use crate::mock_mux::{FLASHER_CLIENT, refuse_target};
use crate::options::WriteOptions;
use crate::read::read_image;
use crate::thread::on_thread;
use crate::write::write_image;

/// How often the medium is looked for after a switch.
const INTERVAL: Duration = Duration::from_millis(100);

/// A storage multiplexer that programs of the exporter's host switch, and the device that the
/// medium is while the host has it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StorageMuxConfig {
    /// The program that connects the medium to the exporter's host, and its arguments. No shell
    /// reads them.
    host: Program,
    /// The program that connects the medium to the device, and its arguments.
    dut: Program,
    /// The program that disconnects the medium from both, and its arguments.
    off: Program,
    /// The block device that the medium is while the host has it. Prefer a name that stays, such
    /// as one in `/dev/disk/by-path`.
    path: HostPath,
    /// How long a program may take, and how long the medium may take to appear afterwards.
    #[serde(default = "minute")]
    #[schemars(default = "minute")]
    timeout: Span,
    /// How long an image's transfer may make no progress before it fails, for example `30s`.
    #[serde(default)]
    stall_timeout: Option<Span>,
    /// Whether each image is read back from the medium and compared.
    #[serde(default)]
    verify: bool,
}

fn minute() -> Span {
    Span::from(Duration::from_secs(60))
}

#[async_trait]
impl DriverConfig for StorageMuxConfig {
    const NAME: &'static str = "storage-mux";
    type Driver = StorageMuxDriver;

    fn check(&self) -> Vec<ConfigProblem> {
        let mut found = Vec::new();
        if self.timeout.as_duration().is_zero() {
            found.push(ConfigProblem::new("timeout", "leaves a program no time to run"));
        }
        found
    }

    async fn open(self, _: OpenContext) -> Result<StorageMuxDriver> {
        let turn = Arc::default();
        let shared = Shared { config: self, side: Mutex::new(Side::Unknown), turn };
        Ok(StorageMuxDriver { shared: Arc::new(shared), _turn: None })
    }
}
register_driver!(StorageMuxConfig);

/// The driver of [`StorageMuxConfig`]. Switches and transfers run one at a time.
#[derive(Debug)]
pub struct StorageMuxDriver {
    shared: Arc<Shared>,
    /// Held by a flash or dump until the medium is given back, also when it is cancelled.
    _turn: Option<OwnedMutexGuard<()>>,
}

#[derive(Debug)]
struct Shared {
    config: StorageMuxConfig,
    side: Mutex<Side>,
    /// One flash or dump at a time: another's return of the medium would take it away.
    turn: Arc<Mutex<()>>,
}

/// What has the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Host,
    Elsewhere,
    /// No switch has succeeded since the driver was opened, or the last one failed.
    Unknown,
}

impl StorageMuxDriver {
    async fn taking_turns(&self) -> Arc<dyn StorageMux> {
        let turn = self.shared.turn.clone().lock_owned().await;
        Arc::new(Self { shared: self.shared.clone(), _turn: Some(turn) })
    }

    async fn switch(&self, what: &str, program: &Program, to: Side) -> Result<()> {
        let mut side = self.shared.side.lock().await;
        *side = Side::Unknown;
        let doing = || format!("running `{what}`");
        let within = self.shared.config.timeout.as_duration();
        run(program.command(), within).await.with_context(doing)?;
        if to == Side::Host {
            self.wait_for_medium(within).await?;
        }
        *side = to;
        tracing::info!("medium: {what}");
        Ok(())
    }

    /// Waits until the medium can be opened: a card reader needs a moment to detect a card.
    async fn wait_for_medium(&self, within: Duration) -> Result<()> {
        let path = self.shared.config.path.located().await;
        let end = Instant::now() + within;
        loop {
            let tried = path.clone();
            let opening = on_thread("mux-medium", move || File::open(tried).map(drop));
            // A reader that hangs is given up, too.
            let opened = match timeout_at(end, opening).await {
                Ok(opened) => opened?,
                Err(elapsed) => Err(elapsed.into()),
            };
            match opened {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() >= end => {
                    let message = format!(
                        "`host` succeeded, but {} is not there after {within:?}",
                        path.display()
                    );
                    return Err(Error::unavailable(message).with_source(error).with_hint(
                        "check the card, its reader and `path`; raise `timeout` if the reader is slow",
                    ));
                }
                Err(_) => tokio::time::sleep(INTERVAL).await,
            }
        }
    }

    /// The medium, which stays where it is while the guard is held.
    async fn medium(&self) -> Result<(PathBuf, tokio::sync::MutexGuard<'_, Side>)> {
        let side = self.shared.side.lock().await;
        if *side != Side::Host {
            return Err(Error::failed_precondition("the host does not have the medium").with_hint(
                "call `host` first, or flash, which takes the medium and gives it back",
            ));
        }
        Ok((self.shared.config.path.located().await, side))
    }
}

#[async_trait]
impl Driver for StorageMuxDriver {
    interfaces!(StorageMux, Flasher);

    fn client(&self) -> Option<&str> {
        Some(FLASHER_CLIENT)
    }
}

#[async_trait]
impl StorageMux for StorageMuxDriver {
    async fn host(&self) -> Result<()> {
        self.switch("host", &self.shared.config.host, Side::Host).await
    }

    async fn dut(&self) -> Result<()> {
        self.switch("dut", &self.shared.config.dut, Side::Elsewhere).await
    }

    async fn off(&self) -> Result<()> {
        self.switch("off", &self.shared.config.off, Side::Elsewhere).await
    }

    async fn write(&self, source: ImageSource) -> Result<()> {
        let (path, _side) = self.medium().await?;
        let config = &self.shared.config;
        let options = WriteOptions {
            stall_timeout: config.stall_timeout.map(Span::as_duration),
            verify: config.verify,
            must_exist: true,
            ..WriteOptions::default()
        };
        write_image(source, &path, options).await.map(drop)
    }

    async fn read(&self, target: ImageSink) -> Result<()> {
        let (path, _side) = self.medium().await?;
        read_image(&path, target).await.map(drop)
    }
}

#[async_trait]
impl Flasher for StorageMuxDriver {
    async fn flash(&self, source: ImageSource, target: Option<String>) -> Result<()> {
        refuse_target(target)?;
        flash_medium(self.taking_turns().await, source).await
    }

    async fn dump(&self, target: ImageSink, partition: Option<String>) -> Result<()> {
        refuse_target(partition)?;
        dump_medium(self.taking_turns().await, target).await
    }

    async fn targets(&self) -> Result<FlashTargets> {
        Ok(FlashTargets::default())
    }
}
