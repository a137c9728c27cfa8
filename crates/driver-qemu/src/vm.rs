//! A virtual machine: the handle that programs and drivers share, and the order in which its parts
//! start and end.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::StreamExt;
use jumpstarter_driver_core::prelude::*;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::{OffMode, QemuConfig};
use crate::console::Console;
use crate::folders::Folders;
use crate::host::HostFacts;
use crate::interface::Machine;
use crate::launch;
use crate::lock::lock;
use crate::names::NameGuard;
use crate::parts::Parts;
use crate::ports::{ForwardedPort, Forwards};
use crate::run::{KILL_WITHIN, QUOTED_LINES, Run, STALLED_HINT, with_console};
use crate::state::{MachineEvent, MachineState, Phase, StopOutcome};
use crate::status::{STATE, Status};
use crate::storage::Storage;
use crate::vsock;

/// The default timeout of [`Machine::wait_for`].
const DEFAULT_WAIT: Duration = Duration::from_secs(60);

/// How long a cancelled flash or start may take to end.
const LET_GO_WITHIN: Duration = Duration::from_secs(20);

/// A virtual machine. Cheap to clone; every method may be called from many tasks at once.
///
/// Dropping the last clone kills QEMU and removes the machine's private folder, without waiting;
/// [`Machine::destroy`] does the same and waits.
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
pub struct Vm(pub(crate) Arc<Parts>);

impl Vm {
    /// Creates a machine that is off: finds QEMU and the accelerator, chooses free ports, creates
    /// its private folder.
    ///
    /// # Errors
    /// `InvalidArgument` for a configuration that cannot work; `FailedPrecondition` if QEMU is not
    /// installed, or if the configured accelerator does not work here. A failure leaves nothing
    /// behind.
    pub async fn create(name: impl Into<String>, config: QemuConfig) -> Result<Self> {
        Self::create_named(name.into(), config, None).await
    }

    pub(crate) async fn create_named(
        name: String,
        mut config: QemuConfig,
        taken: Option<NameGuard>,
    ) -> Result<Self> {
        if let Some(problem) = config.problems().into_iter().next() {
            return Err(Error::invalid_argument(format!(
                "machine `{name}`: {}: {}",
                problem.field, problem.message
            )));
        }
        let facts = HostFacts::probe(&config)
            .await
            .with_context(|| format!("preparing machine `{name}`"))?;
        config.anchor_paths().with_context(|| format!("preparing machine `{name}`"))?;
        let forwards = Forwards::choose(&config)?;
        let doing = || format!("preparing machine `{name}`");
        let folders = Folders::make(&facts.place).await.with_context(doing)?;
        let storage = Storage::new(folders.images(), &facts.place);
        if let Some(firmware) = facts.firmware.as_ref().filter(|_| facts.needs_firmware(&config)) {
            // It is copied with the others, and was not in the configuration.
            config.default_partitions.ovmf_code = Some(firmware.code.clone().into());
            let vars = firmware.vars.clone().map(Into::into);
            config.default_partitions.ovmf_vars = config.default_partitions.ovmf_vars.or(vars);
        }
        let partitions = &mut config.default_partitions;
        facts.place.share(partitions, folders.images()).await.with_context(doing)?;
        storage.inspect_defaults(&config).await?;
        Ok(Self(Arc::new(Parts {
            config: Mutex::new(config),
            vsock_cid: vsock::choose_cid(&facts),
            facts,
            folders,
            storage,
            forwards,
            console: Console::new(),
            status: Status::new(&name),
            name,
            run: Mutex::new(None),
            exclusive: tokio::sync::Mutex::new(()),
            destroyed: CancellationToken::new(),
            taken_name: Mutex::new(taken),
        })))
    }

    /// Its name, for messages and logs.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The configuration for the next power-on.
    pub fn config(&self) -> QemuConfig {
        lock(&self.0.config).clone()
    }

    /// The facts about this host when the machine was created.
    pub fn host(&self) -> &HostFacts {
        &self.0.facts
    }

    /// The process id of QEMU while it runs: in a sidecar, that of its container.
    pub fn pid(&self) -> Option<u32> {
        self.running().map(|run| run.pid())
    }

    /// The path of the screen's Unix socket, which speaks VNC (RFB) while the machine runs.
    pub fn vnc_path(&self) -> PathBuf {
        self.0.folders.sockets().join(launch::VNC_SOCKET)
    }

    /// The guest's ports that the host can reach, in the order of `hostfwd`. Their addresses stay
    /// the same over all power cycles.
    pub fn forwards(&self) -> &[ForwardedPort] {
        &self.0.forwards.all
    }

    /// Opens the console, even while the machine is off. The first client of a power cycle also
    /// gets the output since its beginning (the last mebibyte of it). Many clients may be connected
    /// at once.
    ///
    /// # Errors
    /// `FailedPrecondition` for a destroyed machine.
    pub fn open_console(&self) -> Result<Channel> {
        self.usable()?;
        Ok(self.0.console.attach())
    }

    /// Refuses an operation that needs a machine that is up.
    pub(crate) fn require_up(&self, doing: &str) -> Result<()> {
        self.up(doing).map(drop)
    }

    /// The current run. A finished one is dropped, with its resources.
    pub(crate) fn running(&self) -> Option<Arc<Run>> {
        let mut run = lock(&self.0.run);
        if run.as_ref().is_some_and(|run| !run.is_live()) {
            *run = None;
        }
        run.clone()
    }

    fn usable(&self) -> Result<()> {
        if self.0.destroyed.is_cancelled() { Err(self.destroyed()) } else { Ok(()) }
    }

    pub(crate) fn destroyed(&self) -> Error {
        Error::failed_precondition(format!("machine `{}` is destroyed", self.0.name))
            .with_hint("restart the exporter, or start a new `jmp shell`: the machine is created again when its device is opened")
    }

    /// The run of a machine that is up; fails with the reason if it is not.
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

    /// Refuses an operation that is not possible while the machine runs.
    pub(crate) fn refuse_while_running(&self, doing: &str) -> Result<()> {
        self.usable()?;
        match self.running() {
            None => Ok(()),
            Some(_) => {
                let state = self.0.status.get();
                Err(Error::failed_precondition(format!(
                    "{doing}: machine `{}` is {state}",
                    self.0.name
                ))
                .with_hint("power it off first"))
            }
        }
    }

    /// Powers off as the configuration's `off` says.
    ///
    /// # Errors
    /// `DeadlineExceeded` if even SIGKILL does not end QEMU.
    pub async fn power_off(&self) -> Result<StopOutcome> {
        match self.config().off {
            OffMode::Cut => self.cut().await,
            OffMode::Graceful => self.stop().await,
        }
    }

    /// Cuts the power like pulling a plug: QMP's `quit`, then SIGKILL. Idempotent; ends a running
    /// `stop` sooner, and waits for a running start. A crashed machine is off after it.
    ///
    /// # Errors
    /// `DeadlineExceeded` if even SIGKILL does not end QEMU.
    pub async fn cut(&self) -> Result<StopOutcome> {
        match self.stoppable().await {
            Some(run) => run.cut().await,
            None => Ok(StopOutcome::AlreadyOff),
        }
    }

    /// Shuts the machine down: a running one is powered off as the configuration's `off` says, and
    /// is then destroyed. Other operations end as with [`Machine::destroy`]. Idempotent; `cut` and
    /// `destroy` end it sooner.
    ///
    /// Cancelling does not stop the power-off; the machine's resources are then removed when its
    /// last handle is dropped, which also kills a QEMU that has not ended.
    ///
    /// # Errors
    /// `DeadlineExceeded` if even SIGKILL does not end QEMU.
    pub async fn close(&self) -> Result<()> {
        self.0.destroyed.cancel();
        if self.config().off == OffMode::Graceful
            && let Some(run) = self.running()
        {
            match run.stop().await {
                Ok(outcome) => {
                    tracing::info!(machine = self.0.name, "closing a machine: {outcome}")
                }
                Err(error) => {
                    tracing::warn!(error = error.report(), "a machine did not stop: it is cut")
                }
            }
        }
        self.destroy().await
    }

    /// The run to stop. Waits only for a running start; if nothing runs or starts, clears a crash.
    async fn stoppable(&self) -> Option<Arc<Run>> {
        if let Some(run) = self.running() {
            return Some(run);
        }
        if !self.0.status.get().is_over() {
            // A start is running: its run appears before it releases `exclusive`.
            let _exclusive = self.0.exclusive.lock().await;
            if let Some(run) = self.running() {
                return Some(run);
            }
        }
        self.0.status.clear_crash();
        None
    }

    /// Executes a QMP command of a machine that is up, and waits until the state reflects it.
    async fn command<C: qapi::Command + Send + Sync + 'static>(
        &self,
        doing: &str,
        command: C,
    ) -> Result<()> {
        let run = self.up(doing)?;
        run.execute_and_settle(command).await.map_err(|error| {
            let error = error.context(format!("cannot {doing} machine `{}`", self.0.name));
            with_console(error, &self.0.console.last_lines(QUOTED_LINES))
        })
    }

    /// Waits until the machine is in `phase`, even for a moment. Fails at once if it ends instead,
    /// or is in a final state.
    async fn reach(&self, phase: Phase, within: Duration) -> Result<MachineState> {
        let (doing, name) = (format!("waiting for `{phase}`"), &self.0.name);
        // From here on no change is missed.
        let mut events = self.0.status.events();
        let arrive = async {
            let mut was_up = false;
            let mut state = self.0.status.get();
            loop {
                if state.phase() == phase {
                    return Ok(state);
                }
                if state.is_over() && (was_up || phase == Phase::Off) {
                    return Err(Error::failed_precondition(format!(
                        "{doing}: machine `{name}` is {state}"
                    )));
                }
                was_up |= !state.is_over();
                state = loop {
                    match events.recv().await {
                        Ok(event) if event.name == STATE => break event.state,
                        Ok(_) => {}
                        // Some events were missed.
                        Err(_) => break self.0.status.get(),
                    }
                };
            }
        };
        let arrive = async {
            tokio::select! {
                biased;
                arrived = timeout(within, arrive) => arrived,
                () = self.0.destroyed.cancelled() => Ok(Err(self.destroyed())),
            }
        };
        let error = match arrive.await {
            Ok(Ok(state)) => return Ok(state),
            Ok(Err(error)) => error,
            Err(_) => {
                let (state, within) = (self.0.status.get(), Span::from(within));
                let message = format!("{doing}: machine `{name}` is still {state} after {within}");
                let error = Error::deadline_exceeded(message);
                match state {
                    // Output of the last power cycle explains nothing.
                    MachineState::Off => return Err(error),
                    MachineState::Paused { why: Some(_) } => error.with_hint(STALLED_HINT),
                    _ => error,
                }
            }
        };
        Err(with_console(error, &self.0.console.last_lines(QUOTED_LINES)))
    }
}

#[async_trait]
impl Machine for Vm {
    async fn state(&self) -> Result<MachineState> {
        Ok(self.0.status.get())
    }

    async fn start(&self) -> Result<()> {
        let _exclusive = self.0.exclusive.lock().await;
        self.usable()?;
        let name = &self.0.name;
        if let Some(run) = self.running() {
            if self.0.status.get().is_up() {
                return Ok(());
            }
            // It is stopping: the new run begins after the old one has ended.
            let timeouts = self.config().timeouts;
            let steps = [timeouts.shutdown.as_duration(), timeouts.quit.as_duration()];
            let within = steps.into_iter().fold(KILL_WITHIN, Duration::saturating_add);
            if timeout(within, run.over()).await.is_err() {
                let (state, within) = (self.0.status.get(), Span::from(within));
                return Err(Error::deadline_exceeded(format!(
                    "starting machine `{name}`: it is still {state} after {within}"
                ))
                .with_hint("cut its power first"));
            }
        }
        self.0.console.settle().await;
        let starting = self.0.status.begin();
        let started = launch::start(&self.0, starting.run()).await;
        let started = started.with_context(|| format!("starting machine `{name}`"))?;
        // A caller that sees the machine up finds its run and its console.
        *lock(&self.0.run) = Some(started.run.clone());
        self.0.console.power_on(started.console);
        started.following.begin(started.run, starting);
        Ok(())
    }

    async fn stop(&self) -> Result<StopOutcome> {
        match self.stoppable().await {
            Some(run) => run.stop().await,
            None => Ok(StopOutcome::AlreadyOff),
        }
    }

    async fn pause(&self) -> Result<()> {
        self.command("pause", qapi::qmp::stop {}).await
    }

    async fn resume(&self) -> Result<()> {
        self.command("resume", qapi::qmp::cont {}).await
    }

    async fn reset(&self) -> Result<()> {
        self.command("reset", qapi::qmp::system_reset {}).await
    }

    async fn power_button(&self) -> Result<()> {
        self.command("press the power button of", qapi::qmp::system_powerdown {}).await
    }

    async fn destroy(&self) -> Result<()> {
        self.0.destroyed.cancel();
        let doing = || format!("destroying machine `{}`", self.0.name);
        let cut = self.cut().await;
        // A running start, flash or dump is ending.
        let let_go = timeout(LET_GO_WITHIN, self.0.exclusive.lock()).await;
        self.0.status.destroy();
        self.0.console.end();
        lock(&self.0.run).take();
        lock(&self.0.taken_name).take();
        let removed = self.0.folders.remove().await;
        cut.with_context(doing)?;
        removed.with_context(doing)?;
        let_go.map(drop).map_err(|_| {
            let within = Span::from(LET_GO_WITHIN);
            let message = format!("{}: what was under way did not end within {within}", doing());
            Error::deadline_exceeded(message)
                .with_hint("check that the file system of its images responds")
        })
    }

    async fn wait_for(&self, state: Phase, timeout: Option<Span>) -> Result<MachineState> {
        self.usable()?;
        self.reach(state, timeout.map_or(DEFAULT_WAIT, Span::as_duration)).await
    }

    async fn events(&self) -> Result<ValueStream<MachineEvent>> {
        self.usable()?;
        // Holds only the events' channel, not the machine: a forgotten stream keeps no machine
        // alive.
        let (receiver, state) = (self.0.status.events(), self.0.status.watch());
        let stream =
            futures_util::stream::unfold((receiver, state), |(mut receiver, state)| async move {
                let event = match receiver.recv().await {
                    Ok(event) => event,
                    Err(RecvError::Lagged(count)) => {
                        let state = state.borrow().state.clone();
                        MachineEvent {
                            name: "LOST".to_owned(),
                            state,
                            data: json!({ "count": count }),
                        }
                    }
                    Err(RecvError::Closed) => return None,
                };
                Some((Ok(event), (receiver, state)))
            });
        Ok(stream.boxed())
    }
}
