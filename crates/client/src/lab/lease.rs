//! A lease: from the request to the release.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use jumpstarter_controller::Pauses;
use jumpstarter_driver_core::{Error, ErrorKind, Result};
use jumpstarter_protocol::client::v1;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::{Lab, LeaseEntry};
use crate::{Address, ConnectOptions, Exporter, connect};

/// How long the release may take, also while the controller is away.
const RELEASE_LIMIT: Duration = Duration::from_secs(30);
/// The longest time between two looks at a lease.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// How long a client's connection may take to end after its tunnel.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// The device that is wanted, and for how long.
#[derive(Clone, Debug)]
pub struct Wanted {
    selector: String,
    exporter: Option<String>,
    duration: Duration,
    begin_time: Option<SystemTime>,
    tags: BTreeMap<String, String>,
    context: BTreeMap<String, String>,
    allow_disabled: bool,
    acquisition_limit: Duration,
}

impl Wanted {
    fn new(selector: String, exporter: Option<String>) -> Self {
        Self {
            selector,
            exporter,
            duration: Duration::from_secs(30 * 60),
            begin_time: None,
            tags: BTreeMap::new(),
            context: BTreeMap::new(),
            allow_disabled: false,
            acquisition_limit: Duration::from_secs(7200),
        }
    }

    /// A device whose exporter has these labels, such as `board=rpi4,arch in (arm64,armhf)`.
    pub fn selector(selector: impl Into<String>) -> Self {
        Self::new(selector.into(), None)
    }

    /// The device of this exporter.
    pub fn exporter(name: impl Into<String>) -> Self {
        Self::new(String::new(), Some(name.into()))
    }

    /// Wants these labels, too.
    #[must_use]
    pub fn and_selector(mut self, selector: impl Into<String>) -> Self {
        self.selector = selector.into();
        self
    }

    /// Sets for how long; default: 30 minutes.
    #[must_use]
    pub fn duration(mut self, duration: Duration) -> Self {
        self.duration = duration;
        self
    }

    /// Begins later.
    #[must_use]
    pub fn begin_time(mut self, time: impl Into<Option<SystemTime>>) -> Self {
        self.begin_time = time.into();
        self
    }

    /// Adds a tag.
    #[must_use]
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(key.into(), value.into());
        self
    }

    /// Adds a text that the exporter sees.
    #[must_use]
    pub fn context(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.context.insert(key.into(), value.into());
        self
    }

    /// Takes exporters, too, that are disabled.
    #[must_use]
    pub fn allow_disabled(mut self, allows: bool) -> Self {
        self.allow_disabled = allows;
        self
    }

    /// Sets how long an exporter is waited for; default: 2 hours.
    #[must_use]
    pub fn acquisition_limit(mut self, limit: Duration) -> Self {
        self.acquisition_limit = limit;
        self
    }

    /// The lease, as the controller is asked for it.
    ///
    /// # Errors
    /// `InvalidArgument` for a duration or a time that cannot be sent.
    pub fn to_wire(&self) -> Result<v1::Lease> {
        let long = |_| Error::invalid_argument("the duration is too long");
        Ok(v1::Lease {
            selector: self.selector.clone(),
            exporter_name: self.exporter.clone(),
            duration: Some(self.duration.try_into().map_err(long)?),
            begin_time: self.begin_time.map(Into::into),
            tags: self.tags.clone().into_iter().collect(),
            context: self.context.clone().into_iter().collect(),
            allow_disabled: self.allow_disabled,
            ..Default::default()
        })
    }
}

/// What is left of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remaining {
    /// So much time.
    Time(Duration),
    /// Nothing: it is over.
    Nothing,
}

/// A lease with its exporter.
///
/// [`release`](Self::release) ends one that was created here. Dropping it releases it as far as is
/// possible: in the background, while the runtime runs.
#[derive(Debug)]
pub struct Lease {
    lab: Lab,
    name: String,
    exporter: String,
    /// Created here, and not released.
    is_own: AtomicBool,
}

impl Lab {
    /// Creates a lease, and waits for its exporter. `progress` gets each reason for a wait of more
    /// than 300 ms.
    /// Cancelling releases the lease.
    ///
    /// # Errors
    /// The controller's: `FailedPrecondition` for a lease that cannot be satisfied,
    /// `DeadlineExceeded` without an exporter in time.
    pub async fn lease(&self, wanted: Wanted, progress: impl FnMut(&str)) -> Result<Arc<Lease>> {
        let created = self.create_lease(wanted.to_wire()?, "").await?;
        let name = created.name.clone();
        // From here on it is released whatever happens.
        let mut lease = Lease {
            lab: self.clone(),
            name,
            exporter: String::new(),
            is_own: AtomicBool::new(true),
        };
        let waited = self.wait_for_exporter(created, wanted.acquisition_limit, progress).await;
        let found = match waited {
            Ok(found) => found,
            Err(error) => {
                lease.release().await.ok();
                return Err(error);
            }
        };
        lease.exporter = found.exporter.unwrap_or_default();
        if let Err(error) = self.wait_for_preparation(&lease.exporter).await {
            lease.release().await.ok();
            return Err(error);
        }
        Ok(Arc::new(lease))
    }

    /// Uses a lease that exists; it is not released here.
    ///
    /// # Errors
    /// `FailedPrecondition` for one that is over, `PermissionDenied` for another client's; else the
    /// controller's.
    pub async fn existing_lease(
        &self,
        name: &str,
        limit: Duration,
        progress: impl FnMut(&str),
    ) -> Result<Arc<Lease>> {
        let found = self.lease_named(name).await?;
        if found.has_ended() {
            return Err(Error::failed_precondition(format!("the lease {name} is over"))
                .with_hint("ask for another one with --selector or --name"));
        }
        let own = self.controller.identity().name();
        if found.client != own {
            let message =
                format!("the lease {name} is of the client {}, not of {own}", found.client);
            return Err(Error::permission_denied(message));
        }
        let found = self.wait_for_exporter(found, limit, progress).await?;
        let exporter = found.exporter.unwrap_or_default();
        self.wait_for_preparation(&exporter).await?;
        let (lab, name) = (self.clone(), found.name);
        Ok(Arc::new(Lease { lab, name, exporter, is_own: AtomicBool::new(false) }))
    }
}

impl Lease {
    /// The name by which `jmp shell --lease` finds it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its exporter.
    pub fn exporter(&self) -> &str {
        &self.exporter
    }

    /// Whether it was created here, and is to be released.
    pub fn is_own(&self) -> bool {
        self.is_own.load(Ordering::Relaxed)
    }

    /// Asks for the lease as the controller has it.
    ///
    /// # Errors
    /// The controller's.
    pub async fn look(&self) -> Result<LeaseEntry> {
        self.lab.lease_named(&self.name).await
    }

    /// The labels of its exporter.
    ///
    /// # Errors
    /// The controller's.
    pub async fn exporter_labels(&self) -> Result<BTreeMap<String, String>> {
        Ok(self.lab.exporter(&self.exporter, false).await?.labels)
    }

    /// Connects to the exporter, through a separate tunnel.
    ///
    /// # Errors
    /// The errors of the controller, the router and the exporter.
    pub async fn connect(&self) -> Result<Exporter> {
        let options = ConnectOptions::new(Address::Unix(self.exporter.clone().into()));
        let tunnel = self.lab.dial(&self.name, &self.exporter).await?;
        connect::over(&options, tunnel).await
    }

    /// Connects each client of a socket to the exporter, with a tunnel for each. Dropping the
    /// future cuts them off.
    ///
    /// # Errors
    /// The error of the socket.
    pub async fn serve(&self, listener: UnixListener) -> Result<()> {
        let mut clients = JoinSet::new();
        loop {
            let accepted = listener.accept().await;
            while clients.try_join_next().is_some() {}
            match accepted {
                Ok((client, _)) => {
                    let (lab, name, exporter) =
                        (self.lab.clone(), self.name.clone(), self.exporter.clone());
                    clients.spawn(async move {
                        let passed = pass(client, &lab, &name, &exporter);
                        if let Err(error) = passed.await {
                            tracing::warn!(
                                error = error.report(),
                                "a connection to the exporter failed"
                            );
                        }
                    });
                }
                Err(error) if is_passing(&error) => {
                    tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                }
                Err(error) => return Err(Error::from(error).context("accepting a connection")),
            }
        }
    }

    /// Waits until the lease is over, and calls `news` with what is left of it at each look. While
    /// the controller is away the lease ends when it was to end at the last look.
    pub async fn ended(&self, mut news: impl FnMut(Remaining)) {
        let mut known: Option<tokio::time::Instant> = None;
        let mut pauses = Pauses::new(Duration::from_secs(1), LOOK_INTERVAL);
        loop {
            let left = match self.look().await {
                Ok(lease) if lease.has_ended() => {
                    news(Remaining::Nothing);
                    return;
                }
                Ok(lease) => {
                    pauses.begin_anew();
                    let left = lease.remaining();
                    known = left.map(|left| tokio::time::Instant::now() + left);
                    left
                }
                Err(_) => {
                    let now = tokio::time::Instant::now();
                    match known {
                        Some(end) if end <= now => {
                            news(Remaining::Nothing);
                            return;
                        }
                        Some(end) => Some(end - now),
                        None => None,
                    }
                }
            };
            if let Some(left) = left {
                news(Remaining::Time(left));
            }
            // The controller cuts ends to whole seconds.
            let until_end = left.unwrap_or(LOOK_INTERVAL).max(Duration::from_millis(200));
            tokio::time::sleep(until_end.min(LOOK_INTERVAL)).await;
        }
    }

    /// Ends a lease that was created here; any other one is left as it is.
    ///
    /// # Errors
    /// `DeadlineExceeded` if the controller is away; else its error.
    pub async fn release(&self) -> Result<()> {
        if !self.is_own.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        release(&self.lab, &self.name).await
    }

    /// Leaves the lease to others: it is not released here.
    pub fn keep(&self) {
        self.is_own.store(false, Ordering::Relaxed);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !*self.is_own.get_mut() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (lab, name) = (self.lab.clone(), std::mem::take(&mut self.name));
            let releases = lab.releases.clone();
            let releasing = async move {
                if let Err(error) = release(&lab, &name).await {
                    let error = error.report();
                    tracing::warn!(error, lease = name, "a lease was not released");
                }
            };
            releases.spawn_on(releasing, &runtime);
        }
    }
}

/// Ends a lease. A controller that is away is waited for.
async fn release(lab: &Lab, name: &str) -> Result<()> {
    let released = tokio::time::timeout(RELEASE_LIMIT, lab.end_lease(name, RELEASE_LIMIT)).await;
    let is_away = |error: &Error| {
        matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::DeadlineExceeded)
    };
    match released {
        Ok(Ok(())) => Ok(()),
        // It was over already.
        Ok(Err(error)) if error.kind() == ErrorKind::FailedPrecondition => Ok(()),
        Ok(Err(error)) if !is_away(&error) => Err(error),
        Ok(Err(_)) | Err(_) => {
            let limit = RELEASE_LIMIT.as_secs();
            let message = format!("the lease {name} was not released within {limit} s");
            Err(Error::deadline_exceeded(message)
                .with_hint("it ends by itself; or run `jmp delete leases` later"))
        }
    }
}

/// Passes a client's bytes on, both ways.
async fn pass(mut client: UnixStream, lab: &Lab, lease: &str, exporter: &str) -> Result<()> {
    let mut tunnel = lab.dial(lease, exporter).await?;
    match tokio::io::copy_bidirectional_with_sizes(&mut client, &mut tunnel, 256 << 10, 256 << 10)
        .await
    {
        Ok(_) => Ok(()),
        // The end of a lease, and of a client that is killed.
        Err(error) => {
            tracing::debug!(%error, "a tunnel broke");
            Ok(())
        }
    }
}

/// Whether the next connection may succeed.
fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let is_full = [Errno::MFILE, Errno::NFILE].map(|errno| Some(errno.raw_os_error()));
    is_full.contains(&error.raw_os_error())
        || matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted)
}
