//! A virtual machine: the handle that programs and drivers share, and the order in which its parts start and end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::StreamExt;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::RuntimeDir;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use crate::builder::NameGuard;
use crate::config::{OffMode, QemuConfig};
use crate::console::Console;
use crate::host::HostFacts;
use crate::interface::Machine;
use crate::launch;
use crate::ports::Forwards;
use crate::run::{Run, Status};
use crate::state::{MachineEvent, MachineState, Phase, StopOutcome};
use crate::storage::Storage;
use crate::vsock;

/// How long [`Vm::wait_for`] waits unless told otherwise.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(60);

/// A virtual machine. Cheap to clone; every method may be called from many tasks at once.
///
/// Dropping the last clone kills QEMU and removes the machine's private folder, without waiting; [`Machine::destroy`]
/// does the same in order.
///
/// ```no_run
/// # use jumpstarter_driver_core::prelude::*;
/// use jumpstarter_driver_qemu::{Machine, QemuConfig, QemuDriver};
///
/// # async fn run() -> Result<()> {
/// let driver = QemuDriver::new();
/// let mut config = QemuConfig::default();
/// config.default_partitions.root = Some("os.qcow2".into());
/// let vm = driver.create_vm("myvm", config).await?;
/// vm.start().await?;
/// vm.pause().await?;
/// vm.resume().await?;
/// println!("{}", vm.stop().await?);
/// vm.destroy().await
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Vm(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) name: String,
    pub(crate) config: Mutex<QemuConfig>,
    pub(crate) facts: HostFacts,
    pub(crate) vsock_cid: Option<u32>,
    pub(crate) folder: PathBuf,
    directory: Mutex<Option<RuntimeDir>>,
    pub(crate) storage: Storage,
    pub(crate) forwards: Forwards,
    pub(crate) console: Console,
    pub(crate) status: Status,
    /// The run that is under way; one that is over is let go when it is next looked at.
    run: Mutex<Option<Arc<Run>>>,
    /// Held by what may not happen at once: starting, flashing, dumping, destroying.
    pub(crate) turn: tokio::sync::Mutex<()>,
    destroyed: AtomicBool,
    taken_name: Mutex<Option<NameGuard>>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Vm {
    /// Makes a machine that is off: finds QEMU and the accelerator, chooses free ports, makes its private folder.
    ///
    /// # Errors
    /// `InvalidArgument` for a configuration that cannot work; `NotFound` where QEMU is not installed;
    /// `FailedPrecondition` where the asked-for accelerator does not work here. Nothing is left behind.
    pub async fn create(name: impl Into<String>, config: QemuConfig) -> Result<Self> {
        Self::create_named(name.into(), config, None).await
    }

    pub(crate) async fn create_named(
        name: String,
        config: QemuConfig,
        taken: Option<NameGuard>,
    ) -> Result<Self> {
        if let Some(problem) = config.problems().into_iter().next() {
            return Err(Error::invalid_argument(format!(
                "machine `{name}`: {}: {}",
                problem.field, problem.message
            )));
        }
        let facts = HostFacts::probe(&config).await.with_context(|| format!("preparing machine `{name}`"))?;
        let forwards = Forwards::choose(&config)?;
        let directory = RuntimeDir::create("qemu").with_context(|| format!("preparing machine `{name}`"))?;
        let folder = directory.path().to_owned();
        let storage = Storage::new(&folder);
        storage.inspect_defaults(&config)?;
        Ok(Self(Arc::new(Inner {
            name,
            config: Mutex::new(config),
            vsock_cid: vsock::choose_cid(&facts),
            facts,
            folder,
            directory: Mutex::new(Some(directory)),
            storage,
            forwards,
            console: Console::new(),
            status: Status::new(),
            run: Mutex::new(None),
            turn: tokio::sync::Mutex::new(()),
            destroyed: AtomicBool::new(false),
            taken_name: Mutex::new(taken),
        })))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The configuration as it is for the next power-on.
    pub fn config(&self) -> QemuConfig {
        lock(&self.0.config).clone()
    }

    /// What was found out about this host when the machine was made.
    pub fn host(&self) -> &HostFacts {
        &self.0.facts
    }

    /// The process id of QEMU while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.running().map(|run| run.pid())
    }

    /// Where the machine's screen is while it runs: a Unix socket that speaks VNC (RFB).
    pub fn vnc_path(&self) -> PathBuf {
        self.0.folder.join(launch::VNC_SOCKET)
    }

    /// Each `hostfwd`: its name, where the host reaches it, and the port of the guest.
    pub fn forwards(&self) -> impl Iterator<Item = (String, SocketAddr, u16)> + '_ {
        self.0.forwards.all.iter().map(|forward| (forward.name.clone(), forward.address, forward.guestport))
    }

    /// Opens the console, also while the machine is off. The first client of a power cycle also gets what was said
    /// since its beginning (the last mebibyte of it). Many clients may be there at once.
    ///
    /// # Errors
    /// `FailedPrecondition` for a destroyed machine.
    pub fn open_console(&self) -> Result<Channel> {
        self.usable()?;
        Ok(self.0.console.attach())
    }

    /// Refuses what needs a machine that is up.
    pub(crate) fn require_up(&self, doing: &str) -> Result<()> {
        self.up(doing).map(drop)
    }

    /// The run that is under way. One that is over is let go, and with it what it held.
    pub(crate) fn running(&self) -> Option<Arc<Run>> {
        let mut run = lock(&self.0.run);
        if run.as_ref().is_some_and(|run| !run.is_running()) {
            *run = None;
        }
        run.clone()
    }

    fn usable(&self) -> Result<()> {
        if self.0.destroyed.load(Ordering::SeqCst) {
            return Err(Error::failed_precondition(format!("machine `{}` is destroyed", self.0.name)));
        }
        Ok(())
    }

    /// The run of a machine that is up, or why there is none.
    fn up(&self, doing: &str) -> Result<Arc<Run>> {
        self.usable()?;
        let state = self.0.status.get();
        match self.running() {
            Some(run) if state.is_up() => Ok(run),
            _ => Err(Error::failed_precondition(format!(
                "cannot {doing} machine `{}`: it is {state}",
                self.0.name
            ))
            .with_hint("start it first")),
        }
    }

    /// Refuses what may not happen while the machine runs.
    pub(crate) fn refuse_while_running(&self, doing: &str) -> Result<()> {
        self.usable()?;
        match self.running() {
            None => Ok(()),
            Some(_) => {
                let state = self.0.status.get();
                Err(Error::failed_precondition(format!("{doing}: machine `{}` is {state}", self.0.name))
                    .with_hint("power it off first"))
            }
        }
    }

    /// Powers off as the configuration's `off` says.
    ///
    /// # Errors
    /// `Internal` when QEMU cannot be stopped.
    pub async fn power_off(&self) -> Result<StopOutcome> {
        match self.config().off {
            OffMode::Cut => self.cut().await,
            OffMode::Graceful => self.stop().await,
        }
    }

    /// Cuts the power as pulling a plug does: QMP's `quit`, then SIGKILL. Idempotent; hurries a `stop` under way.
    ///
    /// # Errors
    /// `Internal` when QEMU cannot be stopped.
    pub async fn cut(&self) -> Result<StopOutcome> {
        if let Some(run) = self.running() {
            return run.cut().await;
        }
        // A start may be under way: its run appears before it gives up its turn.
        let _turn = self.0.turn.lock().await;
        let outcome = match self.running() {
            Some(run) => run.cut().await?,
            None => StopOutcome::AlreadyOff,
        };
        if matches!(self.0.status.get(), MachineState::Crashed { .. }) {
            self.0.status.set(MachineState::Off);
        }
        Ok(outcome)
    }

    /// Waits until the machine is in `phase`. Ends at once when it dies instead, or is in a state that leads nowhere.
    async fn reach(&self, phase: Phase, doing: &str, within: Duration) -> Result<MachineState> {
        let mut states = self.0.status.watch();
        let name = &self.0.name;
        let arrive = async {
            let mut was_up = false;
            loop {
                let state = states.borrow_and_update().clone();
                if state.phase() == phase {
                    return Ok(state);
                }
                let dead = matches!(state.phase(), Phase::Off | Phase::Crashed);
                if dead && (was_up || phase == Phase::Off) {
                    return Err(Error::failed_precondition(format!("{doing}: machine `{name}` is {state}")));
                }
                was_up |= !dead;
                states.changed().await.map_err(|_| Error::internal("the machine is gone"))?;
            }
        };
        timeout(within, arrive).await.unwrap_or_else(|_| {
            let (state, within) = (self.0.status.get(), Span::from(within));
            let lines = self.0.console.last_lines(5);
            let said = if lines.is_empty() {
                String::new()
            } else {
                format!("; its console's last lines:\n{lines}")
            };
            let message = format!("{doing}: machine `{name}` is still {state} after {within}{said}");
            Err(Error::deadline_exceeded(message))
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The monitor task holds QEMU alive: it has to be told. The folder goes with the field.
        if let Some(run) = lock(&self.run).take() {
            run.kill();
        }
    }
}

#[async_trait]
impl Machine for Vm {
    async fn state(&self) -> Result<MachineState> {
        Ok(self.0.status.get())
    }

    async fn start(&self) -> Result<()> {
        let _turn = self.0.turn.lock().await;
        self.usable()?;
        if let Some(run) = self.running() {
            if self.0.status.get().is_up() {
                return Ok(());
            }
            // On its way down: the new run begins where the old one has ended.
            run.ended().await;
        }
        let run =
            launch::start(&self.0).await.with_context(|| format!("starting machine `{}`", self.0.name))?;
        *lock(&self.0.run) = Some(run);
        Ok(())
    }

    async fn stop(&self) -> Result<StopOutcome> {
        match self.running() {
            Some(run) => run.stop().await,
            None => {
                let _turn = self.0.turn.lock().await;
                match self.running() {
                    Some(run) => run.stop().await,
                    None => Ok(StopOutcome::AlreadyOff),
                }
            }
        }
    }

    async fn pause(&self) -> Result<()> {
        let run = self.up("pause")?;
        run.execute(qapi::qmp::stop {}).await?;
        self.reach(Phase::Paused, "pausing", run.command_deadline()).await.map(drop)
    }

    async fn resume(&self) -> Result<()> {
        let run = self.up("resume")?;
        run.execute(qapi::qmp::cont {}).await?;
        self.reach(Phase::Running, "resuming", run.command_deadline()).await.map(drop)
    }

    async fn reset(&self) -> Result<()> {
        self.up("reset")?.execute(qapi::qmp::system_reset {}).await.map(drop)
    }

    async fn power_button(&self) -> Result<()> {
        self.up("press the power button of")?.execute(qapi::qmp::system_powerdown {}).await.map(drop)
    }

    async fn destroy(&self) -> Result<()> {
        self.0.destroyed.store(true, Ordering::SeqCst);
        self.cut().await?;
        let _turn = self.0.turn.lock().await;
        self.0.console.end();
        lock(&self.0.run).take();
        lock(&self.0.taken_name).take();
        let directory = lock(&self.0.directory).take();
        match directory {
            // Images may be large: removing them must not hold up other tasks.
            Some(directory) => tokio::task::spawn_blocking(move || directory.close())
                .await
                .map_err(|error| Error::internal("removing the machine's folder").with_source(error))?
                .context("ending a machine"),
            None => Ok(()),
        }
    }

    async fn wait_for(&self, state: Phase, timeout: Option<Span>) -> Result<MachineState> {
        let within = timeout.map_or(DEFAULT_WAIT, Span::as_duration);
        self.reach(state, &format!("waiting for `{state}`"), within).await
    }

    async fn events(&self) -> Result<ValueStream<MachineEvent>> {
        // Holds the events' channel only, not the machine: a forgotten stream keeps no machine alive.
        let (receiver, state) = (self.0.status.events(), self.0.status.watch());
        let stream = futures_util::stream::unfold((receiver, state), |(mut receiver, state)| async move {
            let event = match receiver.recv().await {
                Ok(event) => event,
                Err(RecvError::Lagged(count)) => {
                    let state = state.borrow().clone();
                    MachineEvent { name: "LOST".to_owned(), state, data: json!({ "count": count }) }
                }
                Err(RecvError::Closed) => return None,
            };
            Some((Ok(event), (receiver, state)))
        });
        Ok(stream.boxed())
    }
}
