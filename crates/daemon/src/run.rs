//! `jmp run`: opens the device of an exporter file, serves it until a signal, and closes it again.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use jumpstarter_config::{ExporterConfig, Hooks};
use jumpstarter_controller::Endpoint;
use jumpstarter_driver_core::{Device, Error, Result, ResultExt, suggest};
use jumpstarter_exporter::{
    Access, Address, Door, Limits, Listener, LogHub, Server, Session, SessionOptions,
};
use jumpstarter_supervise::reap_orphans;
use rustix::process::getpid;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::join::join;
use crate::lease::{self, Lease};
use crate::metrics::{MetricsListener, Observed};
use crate::notify::notify;
use crate::private_socket::PrivateSocket;
use crate::sidecar;
use crate::signals::Signals;
use crate::{Log, reload};

/// How long running calls may take to end after the shutdown began.
const CALLS_GRACE: Duration = Duration::from_secs(5);
/// The time limit for closing devices. Each driver decides what closing means: a power switch may
/// go off; a virtual machine is switched off, or shuts down if configured to (60 s by default, and
/// some more for one that does not).
const CLOSE_LIMIT: Duration = Duration::from_secs(90);
/// The time limit after a second signal.
const HURRY_LIMIT: Duration = Duration::from_secs(3);
/// How long a refused token is tried by default.
const TOKEN_PATIENCE: Duration = Duration::from_secs(5 * 60);
/// The time limit for connections that are cut off, which end much faster.
const CUT_LIMIT: Duration = Duration::from_secs(1);

/// What `jmp run` serves, and at which addresses.
#[derive(Debug)]
pub struct RunOptions {
    pub(crate) config: ExporterConfig,
    listen: Vec<Address>,
    access: Access,
    is_insecure: bool,
    pub(crate) limits: Limits,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) logs: LogHub,
    exit_on_lease_end: bool,
    pub(crate) token_patience: Duration,
}

/// Where an exporter can be reached now.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Ready<'a> {
    /// At these addresses.
    Listening(&'a [Address]),
    /// Through the controller at this endpoint.
    Joined(&'a Endpoint),
}

impl RunOptions {
    /// Serves the device of an exporter file at the addresses of [`listen`](Self::listen).
    pub fn new(config: ExporterConfig) -> Self {
        Self {
            config,
            listen: Vec::new(),
            access: Access::default(),
            is_insecure: false,
            limits: Limits::default(),
            metrics: None,
            logs: LogHub::default(),
            exit_on_lease_end: false,
            token_patience: TOKEN_PATIENCE,
        }
    }

    /// Adds addresses to listen at. Without any, the exporter joins the controller of its file.
    #[must_use]
    pub fn listen(mut self, addresses: impl IntoIterator<Item = Address>) -> Self {
        self.listen.extend(addresses);
        self
    }

    /// Sets who may connect over TCP. Unix sockets are protected by their mode.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Allows TCP without TLS.
    #[must_use]
    pub fn insecure(mut self, is_insecure: bool) -> Self {
        self.is_insecure = is_insecure;
        self
    }

    /// Limits the memory of connections.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Serves metrics at this address.
    #[must_use]
    pub fn metrics(mut self, address: impl Into<Option<SocketAddr>>) -> Self {
        self.metrics = address.into();
        self
    }

    /// The log that clients see; without it they see nothing.
    #[must_use]
    pub fn logs(mut self, logs: LogHub) -> Self {
        self.logs = logs;
        self
    }

    /// Ends the exporter after its first lease, as `exitOnLeaseEnd` in the exporter file does. For
    /// an exporter that joins a controller.
    #[must_use]
    pub fn exit_on_lease_end(mut self, exits: bool) -> Self {
        self.exit_on_lease_end = exits;
        self
    }

    /// How long a token that the controller refuses is tried, and looked for in the exporter file
    /// again, before the exporter ends; default: five minutes.
    #[must_use]
    pub fn token_patience(mut self, patience: Duration) -> Self {
        self.token_patience = patience;
        self
    }

    /// Whether the exporter joins the controller of its file: it has one, with a token, and there
    /// is no address to listen at.
    pub fn joins_a_controller(&self) -> bool {
        self.listen.is_empty() && self.has_controller()
    }

    fn has_controller(&self) -> bool {
        let settings = &self.config.settings;
        settings.endpoint.is_some() && settings.token.is_some()
    }

    /// Whether the exporter ends after a lease.
    pub(crate) fn ends_after_lease(&self) -> bool {
        self.exit_on_lease_end || self.config.settings.exit_on_lease_end
    }

    /// Checks that the options fit together.
    ///
    /// # Errors
    /// `InvalidArgument`, with the option to add or to leave out.
    pub fn check(&self) -> Result<()> {
        if self.joins_a_controller() {
            return Ok(());
        }
        if self.listen.is_empty() {
            return Err(Error::invalid_argument("no address to listen at is given").with_hint(
                "add --tls-grpc-listener [HOST:]PORT or --listen-unix PATH, or `endpoint` and `token` to the \
                 exporter file to join a controller",
            ));
        }
        match (self.access.has_tls(), self.is_insecure) {
            (true, true) => Err(Error::invalid_argument("TLS and --tls-grpc-insecure exclude each other")
                .with_hint("leave out --tls-grpc-insecure, or --tls-cert and --tls-key")),
            (false, false) if self.has_tcp() => Err(Error::invalid_argument("a TCP listener needs TLS").with_hint(
                "add --tls-cert PEM --tls-key PEM, or --tls-grpc-insecure if the network is trusted",
            )),
            _ => Ok(()),
        }
    }

    fn has_tcp(&self) -> bool {
        self.listen.iter().any(|address| matches!(address, Address::Tcp { .. }))
    }

    /// Whether everyone who can reach the port may use the device.
    fn is_open_to_strangers(&self) -> bool {
        self.has_tcp() && self.access.admits_strangers()
    }

    /// Warns if everyone who can reach the port may use the device.
    fn warn_of_strangers(&self) {
        if self.is_open_to_strangers() {
            tracing::warn!(
                "everyone who can reach the TCP port may use the device: set --passphrase or --tls-client-ca"
            );
        }
        if self.has_tcp() && self.is_insecure && self.access.has_passphrase() {
            tracing::warn!("without TLS the passphrase can be read on its way");
        }
    }

    /// Warns if a driver's program can reach a port without a passphrase.
    fn warn_of_guests(&self, device: &Device) {
        let guests = suggest::list(device.reaching_host());
        if self.is_open_to_strangers() && guests != suggest::list([]) {
            tracing::warn!(
                "what runs in {guests} may use the device, too: its network reaches the ports of this host, also on \
                 127.0.0.1; ask for a passphrase, or set `restrict: true` in its configuration"
            );
        }
    }

    /// How long the shutdown may take after a signal.
    fn end_limit(&self) -> Duration {
        let hook = self.config.settings.hooks.after_lease.as_ref();
        hook.map_or(Duration::ZERO, |hook| hook.timeout.as_duration())
            + CALLS_GRACE
            + CUT_LIMIT
            + CLOSE_LIMIT
    }
}

/// Serves until SIGTERM, SIGINT or SIGQUIT, which start the shutdown. No connection is accepted any
/// more, a running beforeLease hook is ended, the afterLease hook runs to its end (or its timeout)
/// while connected clients can follow it, calls are ended (5 s), and the device closes (90 s). A
/// second signal ends the hook, cuts the calls off at once, and leaves the device 3 s.
///
/// SIGHUP from a closing terminal ends it likewise. Without a terminal SIGHUP waits until no client
/// is connected (or one ends its session), ends the lease, closes the device, and serves the
/// changed exporter file at the same addresses. A file with faults changes nothing.
///
/// `ready` is called once all addresses accept connections.
///
/// Without an address it joins the controller of the exporter file: it registers, and serves one
/// lease after another. The device is opened for each, and closed at its end. `ready` is called
/// once it is registered. SIGHUP ends it after the lease then.
///
/// # Errors
/// The errors of [`RunOptions::check`], of reading the TLS files, of opening or resetting the
/// device, of listening and of closing, and the error of a hook whose failure ends the exporter.
/// `Cancelled` for a signal while the device is opened: nothing was served then. After any other
/// signal a complete shutdown is `Ok`.
pub async fn run(options: RunOptions, ready: impl FnOnce(Ready<'_>) -> Result<()>) -> Result<()> {
    // The first process of a container gets the processes whose parents have ended.
    let _reaping = getpid().is_init().then(|| AbortOnDropHandle::new(tokio::spawn(reap_orphans())));
    let outcome = match options.joins_a_controller() {
        true => {
            let ends_with_sidecar = options.ends_after_lease();
            let outcome = join(options, |endpoint| ready(Ready::Joined(endpoint))).await;
            if ends_with_sidecar {
                sidecar::shut_down().await;
            }
            outcome
        }
        false => run_until_signal(options, |addresses| ready(Ready::Listening(addresses))).await,
    };
    Log::flush();
    outcome
}

async fn run_until_signal(
    mut options: RunOptions,
    ready: impl FnOnce(&[Address]) -> Result<()>,
) -> Result<()> {
    options.check()?;
    if options.has_controller() {
        tracing::info!(
            "the exporter serves alone, without its controller: it has an address to listen at"
        );
    }
    let door = options.access.prepare()?;
    let mut signals = Signals::with_reload()?;
    let mut ready = Some(ready);
    loop {
        let session = tokio::select! {
            session = open(&options.config, &options.logs, options.limits.clone()) => session?,
            name = signals.next() => {
                return Err(Error::cancelled(format!("{name} while the device was opened")));
            }
        };
        options.warn_of_guests(session.device());
        let told = |addresses: &[Address]| match ready.take() {
            Some(ready) => {
                options.warn_of_strangers();
                ready(addresses)
            }
            None => {
                tracing::info!("serving what the exporter file says now");
                Ok(())
            }
        };
        let outcome =
            serve_until_signal(&options, door.clone(), &session, &mut signals, told).await;
        let closed = close(&session, &mut signals).await;
        let next = outcome.and_then(|next| closed.map(|()| next))?;
        let Some(Next { config, addresses }) = next.filter(|_| !signals.hurried) else {
            return Ok(());
        };
        options.config = config;
        options.listen = addresses;
    }
}

/// What is served after the exporter file was read again.
struct Next {
    config: ExporterConfig,
    /// The addresses, which stay the same.
    addresses: Vec<Address>,
}

/// Opens the device of a file as a session, and resets it.
pub(crate) async fn open(
    config: &ExporterConfig,
    logs: &LogHub,
    limits: Limits,
) -> Result<Session> {
    open_as(config, session_options(config, logs, limits)).await
}

/// The options of a session of a file.
pub(crate) fn session_options(
    config: &ExporterConfig,
    logs: &LogHub,
    limits: Limits,
) -> SessionOptions {
    let settings = &config.settings;
    let options = SessionOptions::default()
        .motd(settings.motd.clone().unwrap_or_default())
        .logs(logs.clone())
        .limits(limits);
    match settings.metadata.name.is_empty() {
        true => options,
        false => options.name(&settings.metadata.name),
    }
}

/// As [`open`], with other options.
pub(crate) async fn open_as(
    config: &ExporterConfig,
    session_options: SessionOptions,
) -> Result<Session> {
    let device = config.open().await?;
    let session = Session::new(device, session_options)?;
    let reset = session.reset().await.context("resetting the device before it is served");
    if let Err(error) = reset {
        // The first error is returned, not that of closing.
        drop(within(CLOSE_LIMIT, session.device().close()).await);
        return Err(error);
    }
    Ok(session)
}

/// Why serving ends.
enum End {
    /// The lease ended: with the error of a failed hook.
    Lease(Result<()>),
    Signal,
    ListenerFailed(Error),
    /// The exporter file was read again.
    Reload(Box<ExporterConfig>),
}

/// Waits for a signal that ends the exporter, or until the exporter file was read again.
async fn ending(options: &RunOptions, session: &Session, signals: &mut Signals) -> End {
    loop {
        let mut name = signals.next_or_reload().await;
        if name.is_none() {
            tracing::info!("the exporter file is read anew once no client is connected");
            name = tokio::select! {
                name = signals.next() => Some(name),
                () = reload::wait_free(session) => None,
            };
        }
        if let Some(name) = name {
            tracing::info!(signal = name, "shutting down");
            return End::Signal;
        }
        if let Some(config) = reload::read(&options.config).await {
            return End::Reload(Box::new(config));
        }
    }
}

/// Serves, runs the lease, and ends the calls.
async fn serve_until_signal(
    options: &RunOptions,
    door: Door,
    session: &Session,
    signals: &mut Signals,
    ready: impl FnOnce(&[Address]) -> Result<()>,
) -> Result<Option<Next>> {
    let hooks = &options.config.settings.hooks;
    PrivateSocket::sweep().await?;
    let (private, for_hooks) = for_hooks(hooks).await?.unzip();
    // Before any client can connect: the state says that a hook comes first.
    let mut lease = Lease::new(session, hooks, private.as_ref());
    session.let_clients_end_it();
    let mut server = Server::new(session);
    for address in &options.listen {
        let door = match address {
            // The socket's mode protects it; clients send no passphrase there.
            Address::Unix(_) => Door::default(),
            _ => door.clone(),
        };
        server.start(Listener::bind(address).await?, door);
    }
    if let Some(listener) = for_hooks {
        server.start_for_hooks(listener);
    }
    let _metrics = match options.metrics {
        Some(address) => {
            let observed = Observed::default();
            observed.set_session(Some(session));
            Some(MetricsListener::bind(address).await?.serve(observed))
        }
        None => None,
    };
    let addresses = server.addresses().to_vec();
    ready(&addresses)?;
    notify("READY=1");
    let closing = CancellationToken::new();
    let leases = lease.serve(&closing);
    tokio::pin!(leases);
    let end = tokio::select! {
        ended = &mut leases => End::Lease(ended),
        end = ending(options, session, signals) => end,
        error = server.failed() => {
            tracing::error!(error = error.report(), "shutting down: a listener failed");
            End::ListenerFailed(error)
        }
    };
    match &end {
        End::Reload(_) => notify(&reload::notification()),
        _ => {
            notify(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", options.end_limit().as_micros()))
        }
    }
    server.stop_accepting();
    let (ended, next) = match end {
        End::Lease(ended) => (Some(ended), Ok(None)),
        End::Signal => (None, Ok(None)),
        End::ListenerFailed(error) => (None, Err(error)),
        End::Reload(config) => (None, Ok(Some(Next { config: *config, addresses }))),
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            closing.cancel();
            tokio::select! {
                ended = &mut leases => ended,
                () = signals.hurry("the afterLease hook is ended") => Ok(()),
            }
        }
    };
    stop(server, signals).await;
    next.and_then(|next| ended.map(|()| next))
}

/// The socket for hooks, if there are hooks.
pub(crate) async fn for_hooks(hooks: &Hooks) -> Result<Option<(PrivateSocket, Listener)>> {
    if lease::has_hooks(hooks) { PrivateSocket::new().await.map(Some) } else { Ok(None) }
}

/// Accepts no new calls, and gives running ones time to end; a second signal, now or before, cuts
/// them off.
pub(crate) async fn stop(server: Server, signals: &mut Signals) {
    let grace = async {
        if signals.hurried {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(CALLS_GRACE) => {
                tracing::warn!("some calls did not end in time: their connections are cut off");
            }
            () = signals.hurry("calls are cut off") => {}
        }
    };
    server.stop(grace).await;
}

/// Closes the device within its time limit.
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
