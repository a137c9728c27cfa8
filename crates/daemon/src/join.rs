//! `jmp run` with a controller: the exporter registers, and serves one lease after another.
//!
//! The controller decides who has the device. One task follows its decisions while the exporter
//! lives. A controller that is away ends neither a lease nor a tunnel.

mod counted;
mod following;
mod lease;
mod listening;
mod reporter;

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use jumpstarter_config::{ExporterConfig, GrpcOption, Settings};
use jumpstarter_controller::{Controller, ControllerOptions, Endpoint, Identity, Pauses, Trust};
use jumpstarter_driver_core::{Error, Result, ResultExt};
use jumpstarter_exporter::Session;
use jumpstarter_protocol::labels::NAME;
use jumpstarter_protocol::rpc::controller::{Register, Unregister};
use jumpstarter_protocol::v1::{ExporterStatus, RegisterRequest, UnregisterRequest};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::counted::{Counted, Counts};
use self::following::{Assignment, Credentials, Leased, follow};
use self::lease::{Context, End};
use self::reporter::Reporter;
use crate::metrics::{MetricsListener, Observed};
use crate::notify::notify;
use crate::private_socket::PrivateSocket;
use crate::reload;
use crate::run::{RunOptions, close, open, open_as, session_options};
use crate::signals::Signals;

/// The variables that make every certificate trusted.
const INSECURE: [&str; 2] = ["JMP_GRPC_INSECURE", "JUMPSTARTER_GRPC_INSECURE"];
/// The farewell may take so long.
const FAREWELL_LIMIT: Duration = Duration::from_secs(10);
/// The state after a failed opening stays visible so long.
const VISIBLE: Duration = Duration::from_secs(1);

/// The controller that an exporter file names. Nothing is connected.
///
/// # Errors
/// `InvalidArgument` for a wrong `endpoint`, `tls.ca`, name or namespace; the errors of reading the
/// token.
pub fn controller_of(settings: &Settings) -> Result<Controller> {
    let endpoint: Endpoint = settings.endpoint.as_deref().unwrap_or_default().parse()?;
    let token = settings.token.as_ref();
    let token = token.ok_or_else(|| Error::invalid_argument("the exporter file has no `token`"))?;
    let token = token.clone().resolve().context("reading the token")?;
    let namespace = settings.metadata.namespace.clone().unwrap_or_default();
    let name = settings.metadata.name.clone();
    if namespace.is_empty() || name.is_empty() {
        let message = "joining a controller needs `metadata.namespace` and `metadata.name`";
        return Err(Error::invalid_argument(message)
            .with_hint("write the names that the exporter has at the controller"));
    }
    let is_set = |name: &str| std::env::var(name).is_ok_and(|value| value == "1");
    let is_insecure = settings.tls.insecure || INSECURE.into_iter().any(is_set);
    let trust = Trust::of_settings(&settings.tls.ca, is_insecure)?;
    let arguments =
        settings.grpc_options.iter().flatten().filter_map(|(name, value)| match value {
            GrpcOption::Number(value) => Some((name.as_str(), *value)),
            _ => None,
        });
    let options = ControllerOptions::new(endpoint, Identity::exporter(namespace, name, token));
    Controller::new(options.trust(trust).channel_arguments(arguments))
}

/// Drivers that fail to open: too many in a row end the exporter.
#[derive(Debug)]
struct Failures {
    most: u32,
    window: Duration,
    rapid: u32,
    last: Option<Instant>,
}

impl Failures {
    fn new(settings: &Settings) -> Self {
        let detection = &settings.failure_detection;
        let window = Duration::from_secs(detection.rapid_failure_window.into());
        Self { most: detection.max_rapid_failures, window, rapid: 0, last: None }
    }

    /// Counts a failure. Returns the error if there are too many.
    fn count(&mut self, error: Error) -> Result<()> {
        let now = Instant::now();
        let is_rapid = self.last.is_some_and(|last| now - last <= self.window);
        self.rapid = if is_rapid { self.rapid + 1 } else { 1 };
        self.last = Some(now);
        tracing::error!(error = error.report(), in_a_row = self.rapid, "the device does not open");
        match self.rapid >= self.most.max(1) {
            true => {
                let message = format!("the device did not open {} times in a row", self.rapid);
                Err(error.context(message))
            }
            false => Ok(()),
        }
    }

    fn none(&mut self) {
        (self.rapid, self.last) = (0, None);
    }
}

/// Joins the controller of the file, and serves its leases until a signal.
///
/// `ready` is called once the controller has the exporter's registration.
///
/// # Errors
/// `InvalidArgument` for a file that cannot join; the error of a device that fails to open, again
/// and again; `Unauthenticated`, `PermissionDenied` and the like for a token that is refused for
/// five minutes; the error of a hook whose failure ends the exporter. A signal is `Ok`.
pub(crate) async fn join(
    options: RunOptions,
    ready: impl FnOnce(&Endpoint) -> Result<()>,
) -> Result<()> {
    let controller = controller_of(&options.config.settings)?;
    let mut signals = Signals::with_reload()?;
    PrivateSocket::sweep().await?;
    let mut failures = Failures::new(&options.config.settings);
    let counted = Counted::default();
    let observed = Observed::of_joined(counted.clone());
    let _metrics = match options.metrics {
        Some(address) => Some(MetricsListener::bind(address).await?.serve(observed.clone())),
        None => None,
    };
    let reporter = Reporter::new(controller.clone(), counted.clone());
    let mut credentials = Credentials::new(controller.clone(), &options);
    let registered = tokio::select! {
        registered = register(&options, &controller, &mut credentials, &mut failures) => registered,
        name = signals.next() => {
            return Err(Error::cancelled(format!("{name} before the exporter was registered")));
        }
    };
    registered?;
    // The first state comes before the stream of leases. A lost one is reported with the stream.
    let first = (ExporterStatus::Available, "Exporter registered and available");
    if let Err(error) = reporter.report_now(first.0, first.1).await {
        tracing::debug!(error = error.report(), "the first state was not reported");
    }
    let (sender, assignment) = watch::channel(None);
    let refused = CancellationToken::new();
    let is_refused = refused.clone();
    signals.also_end_with(refused.clone());
    let following =
        follow(controller.clone(), counted.clone(), credentials, reporter.clone(), sender);
    let following = AbortOnDropHandle::new(tokio::spawn(async move {
        let _refused = refused.drop_guard();
        following.await
    }));
    ready(controller.endpoint())?;
    notify("READY=1");
    let joined = Joined {
        options,
        controller: controller.clone(),
        reporter: reporter.clone(),
        counted,
        observed,
        assignment,
        failures,
    };
    let mut outcome = joined.leases(&mut signals).await;
    if is_refused.is_cancelled()
        && let Ok(Err(error)) = following.await
    {
        outcome = Err(error);
    }
    notify("STOPPING=1");
    let farewell = async {
        let told = reporter.report_now(ExporterStatus::Offline, "Exporter shutting down").await;
        let request = UnregisterRequest { reason: "Exporter shutdown".to_owned() };
        told.and(controller.call::<Unregister>(&request).await)
    };
    match tokio::time::timeout(FAREWELL_LIMIT, farewell).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            tracing::warn!(error = error.report(), "the exporter was not unregistered")
        }
        Err(_) => {
            tracing::warn!("the exporter was not unregistered: the controller does not answer")
        }
    }
    outcome
}

/// Registers the exporter with its drivers, which are opened for that and closed. Waits for a
/// controller that is away.
async fn register(
    options: &RunOptions,
    controller: &Controller,
    credentials: &mut Credentials,
    failures: &mut Failures,
) -> Result<()> {
    let mut pauses = Pauses::new(Duration::from_millis(500), Duration::from_secs(10));
    let session = loop {
        match open(&options.config, &options.logs, options.limits.clone()).await {
            Ok(session) => break session,
            Err(error) => failures.count(error)?,
        }
        pauses.wait().await;
    };
    failures.none();
    let report = session.report();
    close(&session, &mut Signals::new()?).await?;
    let labels = HashMap::from([(NAME.to_owned(), controller.identity().name().to_owned())]);
    let request = RegisterRequest { labels, reports: report.reports };
    let mut pauses = Pauses::new(Duration::from_millis(200), Duration::from_secs(10));
    let mut is_told = false;
    loop {
        let Err(error) = controller.call::<Register>(&request).await else { return Ok(()) };
        if !std::mem::replace(&mut is_told, true) {
            tracing::warn!(error = error.report(), "the exporter is not registered yet");
        }
        credentials.heed(error).await?;
        pauses.wait().await;
    }
}

/// An exporter that is registered.
struct Joined {
    options: RunOptions,
    controller: Controller,
    reporter: Reporter,
    counted: Counted,
    observed: Observed,
    assignment: watch::Receiver<Assignment>,
    failures: Failures,
}

impl Joined {
    /// Serves one lease after another, until a signal or until the exporter is to end.
    async fn leases(mut self, signals: &mut Signals) -> Result<()> {
        let mut served: Option<String> = None;
        let mut stamp = stamp_of(&self.options.config);
        loop {
            let leased = tokio::select! {
                leased = next_lease(&mut self.assignment, served.as_deref()) => leased,
                name = signals.next_or_reload() => {
                    tracing::info!(signal = name.unwrap_or("SIGHUP"), "shutting down");
                    return Ok(());
                }
            };
            // A lease that was served and released is not served again.
            served = Some(leased.lease.clone());
            let now = stamp_of(&self.options.config);
            if now != stamp {
                stamp = now;
                if let Some(config) = reload::read(&self.options.config).await {
                    tracing::info!("the exporter file was read again");
                    self.options.config = config;
                }
            }
            leased.name_in(&self.options.logs, &self.counted);
            self.counted.change(|counts| counts.leases += 1);
            tracing::info!("the lease begins");
            let end = self.serve(signals, &leased).await;
            match &end {
                Ok(end) => tracing::info!(?end, "the lease has ended"),
                Err(error) => tracing::error!(error = error.report(), "the lease has ended"),
            }
            self.options.logs.set_lease(None);
            self.counted.change(|counts| counts.lease = None);
            match end? {
                End::Over => {}
                End::Signal => return Ok(()),
                End::Exit(error) => return Err(error),
            }
            // `hurried`: a signal came while the device was closed.
            if signals.hurried || self.options.ends_after_lease() || signals.reload_is_asked() {
                return Ok(());
            }
            self.reporter.report(ExporterStatus::Available, "Available for new lease");
        }
    }

    /// Opens the device and serves a lease.
    async fn serve(&mut self, signals: &mut Signals, leased: &Leased) -> Result<End> {
        let RunOptions { config, logs, limits, .. } = &self.options;
        let session_options = session_options(config, logs, limits.clone()).of_a_lease();
        let opened = tokio::select! {
            opened = open_as(config, session_options) => opened,
            name = signals.next() => {
                tracing::info!(signal = name, "shutting down");
                return Ok(End::Signal);
            }
        };
        let session: Session = match opened {
            Ok(session) => session,
            Err(error) => {
                let message = format!("the device does not open: {error:#}");
                let counted = self.failures.count(error);
                self.reporter.report(ExporterStatus::BeforeLeaseHookFailed, message);
                tokio::time::sleep(VISIBLE).await;
                self.reporter.release(&leased.lease).await;
                return counted.map(|()| End::Over);
            }
        };
        self.failures.none();
        self.observed.set_session(Some(&session));
        let context = Context {
            config,
            controller: &self.controller,
            counted: &self.counted,
            logs,
            reporter: &self.reporter,
            assignment: self.assignment.clone(),
            signals,
            is_last: self.options.ends_after_lease(),
        };
        let end = lease::serve(context, &session, leased).await;
        self.observed.set_session(None);
        end
    }
}

/// Waits for a lease that is not the one that was served last.
async fn next_lease(assignment: &mut watch::Receiver<Assignment>, served: Option<&str>) -> Leased {
    let is_new = |now: &Assignment| match now {
        Some(Some(leased)) => Some(leased.lease.as_str()) != served,
        _ => false,
    };
    match assignment.wait_for(is_new).await.map(|now| (*now).clone()) {
        Ok(Some(Some(leased))) => leased,
        // Nobody follows the controller any more: that ends the exporter.
        _ => std::future::pending().await,
    }
}

/// Shows whether the exporter file was changed.
fn stamp_of(config: &ExporterConfig) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(&config.origin).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
