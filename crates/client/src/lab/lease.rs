//! A lease: from the request to the release.

use std::collections::BTreeMap;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use jumpstarter_controller::Tunnel;
use jumpstarter_driver_core::{Error, Result};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Lab, LeaseEntry, Wanted, release};
use crate::Exporter;

/// The longest time between two looks at a lease.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// How long a connection that cannot be passed on stays open: its client will connect again.
const REFUSAL: Duration = Duration::from_millis(500);
/// How soon a failure that is like the last one is reported again.
const REPORT_AGAIN: Duration = Duration::from_secs(30);
/// The pause before the next connection is accepted.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

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
/// [`release`](Self::release) ends one that was created here. Dropping it does so on another
/// thread, which the process's exit waits for; a process that a signal kills leaves the lease to
/// its end.
#[derive(Debug)]
pub struct Lease {
    pub(super) lab: Lab,
    pub(super) name: String,
    pub(super) exporter: String,
    /// Created here, and not released.
    is_own: AtomicBool,
}

impl Lab {
    /// Gets a device: creates a lease, or takes the existing one, and waits for its exporter.
    /// `progress` gets each reason for a wait of more than 300 ms. Cancelling releases a lease that
    /// was created.
    ///
    /// # Errors
    /// The controller's: `FailedPrecondition` for a lease that cannot be satisfied or that is over,
    /// `PermissionDenied` for another client's, `DeadlineExceeded` without an exporter in time.
    pub async fn lease(&self, wanted: Wanted, progress: impl FnMut(&str)) -> Result<Arc<Lease>> {
        let found = match &wanted.existing {
            Some(name) => self.existing_lease(name).await?,
            None => self.create_lease(wanted.to_wire()?, "").await?,
        };
        // From here on one that was created is released whatever happens.
        let mut lease = Lease {
            lab: self.clone(),
            name: found.name.clone(),
            exporter: String::new(),
            is_own: AtomicBool::new(wanted.existing.is_none()),
        };
        let limit = wanted.acquisition_limit.unwrap_or(self.acquisition_limit);
        let preparing = async {
            let found = self.wait_for_exporter(found, limit, progress).await?;
            let exporter = found.exporter.unwrap_or_default();
            self.wait_for_preparation(&found.name, &exporter).await?;
            Ok(exporter)
        };
        match preparing.await {
            Ok(exporter) => {
                lease.exporter = exporter;
                Ok(Arc::new(lease))
            }
            Err(error) => {
                if let Err(release) = lease.release().await {
                    tracing::warn!(error = release.report(), "a lease was not released");
                }
                Err(error)
            }
        }
    }

    /// A lease of this client that is not over.
    async fn existing_lease(&self, name: &str) -> Result<LeaseEntry> {
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
        Ok(found)
    }
}

impl Lease {
    /// Asks for a device whose exporter has these labels. Awaiting it gives the device, which
    /// holds the lease.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use jumpstarter_client::lab::Lease;
    ///
    /// # async fn run() -> jumpstarter_driver_core::Result<()> {
    /// let device = Lease::request("board=rpi4").duration(Duration::from_secs(600)).await?;
    /// device.call("power", "on", vec![]).await?;
    /// // Ends the session, and releases the lease.
    /// device.close().await
    /// # }
    /// ```
    pub fn request(selector: impl Into<String>) -> Wanted {
        Wanted::selector(selector)
    }

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

    /// Connects each client of a socket to the exporter, with a tunnel for each. Dropping the
    /// future cuts them off. A failure is logged once, and again after half a minute.
    ///
    /// # Errors
    /// The error of the socket.
    pub async fn serve(&self, listener: UnixListener) -> Result<()> {
        let mut clients = JoinSet::new();
        let mut last: Option<(String, Instant)> = None;
        let mut report = |error: Error| {
            let text = error.report();
            let is_known =
                |(said, at): &(String, Instant)| *said == text && at.elapsed() < REPORT_AGAIN;
            if !last.as_ref().is_some_and(is_known) {
                tracing::warn!(error = text, "a connection to the exporter failed");
                last = Some((text, Instant::now()));
            }
        };
        let (failed, mut failures) = mpsc::unbounded_channel();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(error) = failures.recv() => {
                    report(error);
                    continue;
                }
            };
            while clients.try_join_next().is_some() {}
            match accepted {
                Ok((client, _)) => {
                    let (lab, name, exporter) =
                        (self.lab.clone(), self.name.clone(), self.exporter.clone());
                    let failed = failed.clone();
                    clients.spawn(async move {
                        match lab.dial(&name, &exporter).await {
                            Ok(tunnel) => pass(client, tunnel).await,
                            Err(error) => {
                                // It fails only when nobody serves the socket any more.
                                failed.send(error).ok();
                                tokio::time::sleep(REFUSAL).await;
                                drop(client);
                            }
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

    /// Waits until the lease is over, and calls `news` with what is left of it at each look: twice
    /// a minute, and when the connection to its exporter ends. While the controller is away the
    /// lease ends when it was to end at the last look.
    pub async fn ended(&self, exporter: &Exporter, mut news: impl FnMut(Remaining)) {
        let mut known: Option<tokio::time::Instant> = None;
        let mut lost = pin!(exporter.lost().fuse());
        loop {
            let left = match self.look().await {
                Ok(lease) if lease.has_ended() => {
                    news(Remaining::Nothing);
                    return;
                }
                Ok(lease) => {
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
            tokio::select! {
                () = tokio::time::sleep(until_end.min(LOOK_INTERVAL)) => {}
                // The exporter knows of the end of a lease at once. A router may have failed, too.
                _ = &mut lost => {}
            }
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
        release::now(&self.lab, &self.name).await
    }

    /// Leaves the lease to others: it is not released here.
    pub fn keep(&self) {
        self.is_own.store(false, Ordering::Relaxed);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if *self.is_own.get_mut() {
            release::later(&self.lab, std::mem::take(&mut self.name));
        }
    }
}

/// Passes a client's bytes on, both ways.
async fn pass(mut client: UnixStream, mut tunnel: Tunnel) {
    const SIZE: usize = 256 << 10;
    let passed =
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut tunnel, SIZE, SIZE).await;
    // The end of a lease, and of a client that is killed.
    if let Err(error) = passed {
        tracing::debug!(%error, "a tunnel broke");
    }
}

/// Whether the next connection may succeed.
fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let is_full = [Errno::MFILE, Errno::NFILE].map(|errno| Some(errno.raw_os_error()));
    is_full.contains(&error.raw_os_error())
        || matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted)
}
