//! `jmp run`: opens the device of an exporter file, serves it until a signal, and closes it again.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jumpstarter_driver_core::{Error, ErrorKind, ExporterConfig, Result, ResultExt, Secret};
use jumpstarter_supervise::RuntimeDir;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::lease::{self, Lease};
use crate::metrics::MetricsListener;
use crate::notify::notify;
use crate::{Access, Address, Listener, LogHub, Session, SessionOptions, TlsOptions, serve};

/// Calls that run have so long to end after they were told to.
const CALLS_GRACE: Duration = Duration::from_secs(5);
/// Devices have so long to close: virtual machines shut down in it.
const CLOSE_LIMIT: Duration = Duration::from_secs(60);
/// And so long after a second signal.
const HURRY_LIMIT: Duration = Duration::from_secs(3);

/// What `jmp run` serves, and where.
#[derive(Debug)]
pub struct RunOptions {
    /// The exporter file.
    pub config: ExporterConfig,
    /// Where to listen; at least one.
    pub listen: Vec<Address>,
    /// TLS on TCP.
    pub tls: Option<TlsOptions>,
    /// TCP without TLS is meant.
    pub insecure: bool,
    /// What TCP clients must say.
    pub passphrase: Option<Secret>,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
    /// What clients see of the log.
    pub logs: LogHub,
}

impl RunOptions {
    /// Whether the options fit together.
    ///
    /// # Errors
    /// `InvalidArgument`, with what to add or leave out; `Unimplemented` for joining a controller.
    pub fn check(&self) -> Result<()> {
        if self.listen.is_empty() {
            let settings = &self.config.settings;
            if settings.endpoint.is_some() && settings.token.is_some() {
                return Err(Error::unimplemented("joining a controller is not supported yet").with_hint(
                    "serve the device directly with --tls-grpc-listener PORT or --listen-unix PATH",
                ));
            }
            return Err(Error::invalid_argument("there is nowhere to listen")
                .with_hint("add --tls-grpc-listener [HOST:]PORT or --listen-unix PATH"));
        }
        let tcp = self.listen.iter().any(|address| matches!(address, Address::Tcp(_)));
        match (&self.tls, self.insecure) {
            (Some(_), true) => Err(Error::invalid_argument("TLS and --tls-grpc-insecure exclude each other")
                .with_hint("leave out --tls-grpc-insecure, or --tls-cert and --tls-key")),
            (None, false) if tcp => Err(Error::invalid_argument("a TCP listener needs TLS").with_hint(
                "add --tls-cert PEM --tls-key PEM; or --tls-grpc-insecure, where the network is trusted",
            )),
            _ => Ok(()),
        }
    }

    fn access(&self, address: &Address) -> Access {
        match address {
            // The socket's mode protects it; clients send no passphrase there.
            Address::Unix(_) => Access::default(),
            Address::Tcp(_) => Access { tls: self.tls.clone(), passphrase: self.passphrase.clone() },
        }
    }
}

/// Serves until SIGTERM or SIGINT, then runs the afterLease hook (for its own timeout at most), ends the calls (5 s) and
/// closes the device (60 s). A second signal hurries: it ends the hook, cuts off the calls, and the device has 3 s.
///
/// `ready` is called with the addresses once all of them accept connections.
///
/// # Errors
/// What [`RunOptions::check`] says, what opening the device or listening failed with, and what closing failed with.
pub async fn run(options: RunOptions, ready: impl FnOnce(&[Address]) -> Result<()>) -> Result<()> {
    options.check()?;
    let mut signals = Signals::new()?;
    let session = tokio::select! {
        session = open(&options.config, &options.logs) => session?,
        name = signals.next() => {
            return Err(Error::new(ErrorKind::Cancelled, format!("{name} while the device was opened")));
        }
    };
    let outcome = serve_until_signal(&options, &session, &mut signals, ready).await;
    let closed = close(&session, &mut signals).await;
    outcome.and(closed)
}

/// Opens the device of a file as a session.
pub(crate) async fn open(config: &ExporterConfig, logs: &LogHub) -> Result<Session> {
    let settings = &config.settings;
    let name = Some(settings.metadata.name.clone()).filter(|name| !name.is_empty());
    let motd = settings.motd.clone().unwrap_or_default();
    let options = SessionOptions { name, motd, logs: logs.clone(), ..SessionOptions::default() };
    let device = config.open().await?;
    Session::new(device, options)
}

/// Serves, goes through leases, and ends the calls again.
async fn serve_until_signal(
    options: &RunOptions,
    session: &Session,
    signals: &mut Signals,
    ready: impl FnOnce(&[Address]) -> Result<()>,
) -> Result<()> {
    let mut servers = Servers::new(session);
    for address in &options.listen {
        let listener = Listener::bind(address).await?;
        servers.start(listener, |address| options.access(address));
    }
    let hooks = &options.config.settings.hooks;
    PrivateSocket::sweep();
    let private = lease::has_hooks(hooks).then(PrivateSocket::new).transpose()?;
    if let Some(private) = &private {
        let address = Address::Unix(private.path().to_owned());
        servers.start(Listener::bind(&address).await?, |_| Access::default());
    }
    let host = private.as_ref().map_or(Path::new(""), PrivateSocket::path);
    let mut lease = Lease::new(session, hooks, host);
    if let Some(address) = options.metrics {
        let listener = MetricsListener::bind(address).await?;
        servers.show(listener);
    }
    ready(&servers.addresses[..options.listen.len()])?;
    notify("READY=1");
    let mut ended = tokio::select! {
        name = signals.next() => {
            tracing::info!(signal = name, "shutting down");
            Ok(())
        }
        failed = servers.failed() => Err(failed),
        ended = lease.serve() => ended,
    };
    notify("STOPPING=1");
    if ended.is_ok() {
        ended = tokio::select! {
            ended = lease.finish() => ended,
            () = signals.hurry("the afterLease hook is ended") => Ok(()),
        };
    }
    tokio::select! {
        () = servers.stop() => {}
        () = signals.hurry("calls are cut off") => {}
    }
    ended
}

/// The listeners of a session, each served by a task.
pub(crate) struct Servers {
    session: Session,
    pub(crate) addresses: Vec<Address>,
    stop: CancellationToken,
    tasks: JoinSet<Result<()>>,
}

impl Servers {
    pub(crate) fn new(session: &Session) -> Self {
        let (addresses, tasks) = (Vec::new(), JoinSet::new());
        Self { session: session.clone(), addresses, stop: CancellationToken::new(), tasks }
    }

    pub(crate) fn start(&mut self, listener: Listener, access: impl FnOnce(&Address) -> Access) {
        let access = access(listener.address());
        self.addresses.push(listener.address().clone());
        self.tasks.spawn(serve(self.session.clone(), listener, access, self.stop.clone()));
    }

    /// Shows metrics, until the others stop.
    fn show(&mut self, listener: MetricsListener) {
        let (session, stop) = (self.session.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let shown = listener.serve(session.0.metrics.clone(), session.device().clone());
            tokio::select! {
                () = shown => {}
                () = stop.cancelled() => {}
            }
            Ok(())
        });
    }

    /// Waits until one of them fails.
    pub(crate) async fn failed(&mut self) -> Error {
        match self.tasks.join_next().await {
            Some(ended) => {
                flatten(ended).err().unwrap_or_else(|| Error::internal("a listener ended by itself"))
            }
            None => std::future::pending().await,
        }
    }

    /// Accepts nothing more, ends the calls, and waits for their ends; cancelling cuts them off.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        self.session.shut_down();
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                if let Err(error) = flatten(ended) {
                    tracing::warn!(error = %error.report(), "a listener failed");
                }
            }
        };
        if tokio::time::timeout(CALLS_GRACE, all).await.is_err() {
            tracing::warn!("some calls did not end in time: their connections are closed");
            self.tasks.shutdown().await;
        }
    }
}

/// A path for a Unix socket in a folder that only this user may enter, removed with it.
pub(crate) struct PrivateSocket {
    _folder: RuntimeDir,
    path: PathBuf,
}

impl PrivateSocket {
    /// The kind of the folders.
    const KIND: &str = "exporter";

    /// Makes the folder, and removes those of exporters that were killed.
    pub(crate) fn new() -> Result<Self> {
        let folder = RuntimeDir::create(Self::KIND).context("making a private folder for a socket")?;
        Ok(Self { path: folder.file("socket"), _folder: folder })
    }

    /// Removes the folders of exporters that were killed.
    fn sweep() {
        RuntimeDir::sweep(Self::KIND);
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn flatten(outcome: std::result::Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    outcome.unwrap_or_else(|error| Err(Error::internal("a listener's task ended").with_source(error)))
}

/// Closes the device, in time.
pub(crate) async fn close(session: &Session, signals: &mut Signals) -> Result<()> {
    let closing = session.device().close();
    tokio::pin!(closing);
    let late = |limit: Duration| {
        Error::deadline_exceeded(format!("the device did not close within {} s", limit.as_secs()))
    };
    if !signals.hurried {
        tokio::select! {
            closed = &mut closing => return closed,
            () = tokio::time::sleep(CLOSE_LIMIT) => return Err(late(CLOSE_LIMIT)),
            () = signals.hurry("the device has 3 s to close") => {}
        }
    }
    within(HURRY_LIMIT, closing).await.unwrap_or_else(|| Err(late(HURRY_LIMIT)))
}

async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, future).await.ok()
}

/// The signals that end an exporter.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// A signal came after the one that ends the exporter.
    hurried: bool,
}

impl Signals {
    pub(crate) fn new() -> Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, hurried: false })
    }

    /// Waits for a signal that hurries, and says what it means.
    async fn hurry(&mut self, meaning: &str) {
        let name = self.next().await;
        tracing::warn!(signal = name, "hurrying: {meaning}");
        self.hurried = true;
    }

    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
