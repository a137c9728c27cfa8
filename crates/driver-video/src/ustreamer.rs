//! `ustreamer`: the program ustreamer, which serves a capture device.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_files::RuntimeDir;
use jumpstarter_supervise::{Child, Command, Signal, Sink, StopPlan};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::exchange::{Asked, get};
use crate::interface::{UStreamerDetails, Video, VideoState};

/// How long the program may take to listen.
const START: Duration = Duration::from_secs(10);
/// How often it is tried meanwhile.
const TRY_EVERY: Duration = Duration::from_millis(20);
/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(20);
/// How long the program may take to end, as in Python.
const STOP: Duration = Duration::from_secs(5);
/// How much of what the program says is kept, of each of its two outputs.
const KEPT: usize = 4 << 10;
/// Options that are the driver's own.
const OURS: [&str; 3] = ["unix", "unix-rm", "unix-mode"];

/// Runs the program ustreamer, which serves a capture device by HTTP.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UStreamerConfig {
    /// The program: a name that PATH has, or a path.
    #[serde(default = "program")]
    executable: String,
    /// Its long options, without the dashes: `{device: /dev/video1, format: UYVY}`. `true` gives an
    /// option without a value.
    #[serde(default)]
    args: BTreeMap<String, Word>,
}

/// The value of an option.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Word {
    Flag(bool),
    Number(serde_json::Number),
    Text(String),
}

fn program() -> String {
    "ustreamer".to_owned()
}

impl UStreamerConfig {
    fn command(&self, socket: &std::path::Path) -> Command {
        let command = Command::new(&self.executable).install_hint("apt-get install ustreamer");
        let command = self.args.iter().fold(command, |command, (name, value)| match value {
            Word::Flag(true) => command.arg(format!("--{name}")),
            Word::Flag(false) => command,
            Word::Number(number) => command.arg(format!("--{name}")).arg(number.to_string()),
            Word::Text(text) => command.arg(format!("--{name}")).arg(text),
        });
        command.arg("--unix").arg(socket).stdout(Sink::Tail(KEPT)).stderr(Sink::Tail(KEPT))
    }
}

#[async_trait]
impl DriverConfig for UStreamerConfig {
    const NAME: &'static str = "ustreamer";
    const PYTHON_NAMES: &'static [&'static str] =
        &["jumpstarter_driver_ustreamer.driver.UStreamer"];
    type Driver = UStreamer;

    fn check(&self) -> Vec<ConfigProblem> {
        let mut found = Vec::new();
        for name in self.args.keys() {
            let field = format!("args.{name}");
            if OURS.contains(&name.as_str()) {
                let problem = ConfigProblem::new(field, "is set by the driver");
                found
                    .push(problem.with_hint("leave it out: clients reach it through the exporter"));
            } else if name.starts_with('-') || name.is_empty() || name.contains(char::is_whitespace)
            {
                let problem = ConfigProblem::new(field, "is no name of an option");
                found.push(problem.with_hint("write it without dashes, such as `device`"));
            }
        }
        if self.executable.is_empty() {
            let problem = ConfigProblem::new("executable", "names no program");
            found.push(problem.with_hint("leave it out for the `ustreamer` of PATH"));
        }
        found
    }

    async fn open(self, _: OpenContext) -> Result<UStreamer> {
        let driver = UStreamer { config: self, running: Mutex::new(None) };
        *driver.running.lock().await = Some(driver.start().await?);
        Ok(driver)
    }
}
register_driver!(UStreamerConfig);

/// A running ustreamer. A reset starts it again if it has ended.
#[derive(Debug)]
pub struct UStreamer {
    config: UStreamerConfig,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    folder: RuntimeDir,
}

impl Running {
    fn socket(&self) -> std::path::PathBuf {
        self.folder.file("socket")
    }

    /// What the program said last; wrong options are reported on its standard output.
    fn last_words(&self) -> String {
        format!("{}{}", self.child.stdout_tail(), self.child.stderr_tail())
    }

    async fn stop(self) -> Result<()> {
        let Self { child, folder } = self;
        let plan = StopPlan::new().signal(Signal::TERM, STOP);
        let stopped = child.stop(plan).await;
        blocking(|| Ok(folder.close()?)).await?;
        stopped?;
        Ok(())
    }
}

impl UStreamer {
    async fn start(&self) -> Result<Running> {
        let folder = blocking(|| Ok(RuntimeDir::create_for_sockets("ustreamer")?)).await;
        let folder = folder.context("making a private folder for ustreamer")?;
        let command = self.config.command(&folder.file("socket"));
        let child = command.spawn().await.map_err(Error::from).context("starting ustreamer")?;
        let running = Running { child, folder };
        timeout(START, reach(&running)).await.map_err(|_| {
            let last = running.last_words();
            let message = format!("ustreamer does not listen within {START:?}");
            Error::deadline_exceeded(message).with_hint(format!("it says: {}", last.trim()))
        })??;
        Ok(running)
    }

    async fn connected(&self) -> Result<UnixStream> {
        let running = self.running.lock().await;
        let running = running.as_ref().ok_or_else(|| {
            Error::failed_precondition("ustreamer is stopped").with_hint("reset the device")
        })?;
        timeout(LIMIT, reach(running))
            .await
            .map_err(|_| Error::deadline_exceeded("ustreamer does not take a connection"))?
    }

    async fn ask(&self, target: &str) -> Result<Vec<u8>> {
        let asking = async {
            let io = self.connected().await?;
            get(io, Asked { target, host: "localhost", headers: Vec::new() }, |_| false).await
        };
        let asked = timeout(LIMIT, asking).await;
        let asked = asked.unwrap_or_else(|_| {
            Err(Error::deadline_exceeded(format!("no answer within {LIMIT:?}")))
        });
        asked.with_context(|| format!("asking ustreamer for {target}"))
    }
}

/// Connects to the program, as soon as it listens; an error if it has ended.
async fn reach(running: &Running) -> Result<UnixStream> {
    loop {
        if let Ok(stream) = UnixStream::connect(running.socket()).await {
            return Ok(stream);
        }
        if let Some(status) = running.child.try_status() {
            let last = running.last_words();
            let error = Error::unavailable(format!("ustreamer has ended: {status}"));
            return Err(match last.trim() {
                "" => error.with_hint("reset the device, which starts it again"),
                last => error.with_hint(format!("it says: {last}")),
            });
        }
        sleep(TRY_EVERY).await;
    }
}

#[async_trait]
impl Driver for UStreamer {
    interfaces!(Video);

    fn client(&self) -> Option<&str> {
        Some("jumpstarter_driver_ustreamer.client.UStreamerClient")
    }

    async fn reset(&self) -> Result<()> {
        let mut running = self.running.lock().await;
        let has_ended = running.as_ref().is_some_and(|running| !running.child.is_running());
        if has_ended && let Some(ended) = running.take() {
            ended.stop().await?;
            *running = Some(self.start().await?);
        }
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        match self.running.lock().await.take() {
            Some(running) => running.stop().await,
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Video for UStreamer {
    async fn snapshot(&self) -> Result<String> {
        Ok(STANDARD.encode(self.ask("/snapshot").await?))
    }

    async fn state(&self) -> Result<VideoState> {
        let answer = self.ask("/state").await?;
        let answer: Value = serde_json::from_slice(&answer)
            .map_err(|error| Error::data_loss("ustreamer's state is no JSON").with_source(error))?;
        let source = &answer["result"]["source"];
        let pixels = |side: &str| {
            source["resolution"][side].as_u64().and_then(|side| u32::try_from(side).ok())
        };
        Ok(VideoState {
            online: source["online"].as_bool().unwrap_or_default(),
            width: pixels("width"),
            height: pixels("height"),
            fps: source["captured_fps"].as_f64(),
            ok: Some(answer["ok"].as_bool().unwrap_or_default()),
            result: Some(UStreamerDetails(answer["result"].clone())),
        })
    }

    async fn stream_path(&self) -> Result<String> {
        Ok("/stream".to_owned())
    }

    async fn connect(&self) -> Result<Channel> {
        let stream = self.connected().await.context("connecting to ustreamer")?;
        let (reader, writer) = stream.into_split();
        Ok(Channel::from_split(reader, writer))
    }
}
