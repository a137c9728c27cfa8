//! A device that holds its lease.

use std::sync::Arc;
use std::time::Duration;

use jumpstarter_driver_core::{Error, ErrorKind, Result};

use super::{Lab, Lease};
use crate::connection::Connection;
use crate::exporter::HOOK_WARNING;
use crate::{Address, ConnectOptions, Exporter, ExporterState, connect};

/// The longest wait for the exporter's hooks.
const HOOKS_LIMIT: Duration = Duration::from_secs(300);
/// How often the exporter's state is asked for.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

impl Lease {
    /// Connects to the exporter, and waits until it takes calls. The connection holds the lease:
    /// closing its device [ends the session](Self::end_session) and [releases](Self::release) the
    /// lease, and dropping everything that uses it releases the lease.
    ///
    /// # Errors
    /// As [`connect`](Self::connect); `FailedPrecondition` if a hook fails.
    pub async fn open(self: Arc<Self>) -> Result<Exporter> {
        self.open_with(|options| options).await
    }

    /// As [`open`](Self::open), with other time limits of the connection.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with(
        self: Arc<Self>,
        adjust: impl FnOnce(ConnectOptions) -> ConnectOptions,
    ) -> Result<Exporter> {
        let mut options = adjust(self.options());
        options.lease = Some(self.clone());
        let exporter = self.connect_with(&options).await?;
        exporter.wait_ready(HOOKS_LIMIT).await?;
        Ok(exporter)
    }

    /// Connects to the exporter, through a separate tunnel.
    ///
    /// # Errors
    /// The errors of the controller, the router and the exporter.
    pub async fn connect(&self) -> Result<Exporter> {
        self.connect_with(&self.options()).await
    }

    fn options(&self) -> ConnectOptions {
        let (lab, name, exporter) = (self.lab.clone(), self.name.clone(), self.exporter.clone());
        ConnectOptions::new(Address::Unix(self.exporter.clone().into()))
            .explained_by(async move { why_lost(&lab, &name, &exporter).await })
    }

    async fn connect_with(&self, options: &ConnectOptions) -> Result<Exporter> {
        let tunnel = self.lab.dial(&self.name, &self.exporter).await?;
        connect::over(options, tunnel).await
    }

    /// Ends the exporter's session, and waits until its afterLease hook has run. Returns the
    /// exporter's text. A lease that was not created here is left as it is.
    ///
    /// # Errors
    /// `FailedPrecondition` if the hook failed, `DeadlineExceeded` if it has not ended within five
    /// minutes. An exporter that cannot be reached any more is no error: the release ends its
    /// session, too.
    pub async fn end_session(&self, exporter: &Exporter) -> Result<String> {
        self.end_session_of(&exporter.connection).await
    }

    /// Ends the session and the connection, and releases the lease.
    pub(crate) async fn close(&self, connection: &Connection) -> Result<()> {
        let ended = self.end_session_of(connection).await;
        connection.close().await;
        self.release().await?;
        if let Some(warning) = ended?.strip_prefix(HOOK_WARNING) {
            tracing::warn!("{warning}");
        }
        Ok(())
    }

    async fn end_session_of(&self, exporter: &Connection) -> Result<String> {
        if !self.is_own() {
            return Ok(String::new());
        }
        let ending = async {
            if !exporter.end_session().await? {
                return Ok(String::new());
            }
            loop {
                let status = exporter.status().await?;
                match status.state {
                    ExporterState::Available => return Ok(status.message),
                    ExporterState::AfterLeaseHookFailed | ExporterState::Offline => {
                        return Err(Error::failed_precondition(status.reason()));
                    }
                    _ => tokio::time::sleep(POLL_INTERVAL).await,
                }
            }
        };
        match tokio::time::timeout(HOOKS_LIMIT, ending).await {
            Ok(Err(error)) if error.kind() == ErrorKind::FailedPrecondition => Err(error),
            Ok(Err(error)) => {
                tracing::debug!(error = error.report(), "the session was not ended");
                Ok(String::new())
            }
            Ok(Ok(message)) => Ok(message),
            Err(_) => {
                let limit = HOOKS_LIMIT.as_secs();
                let message = format!("the exporter did not end the session within {limit} s");
                Err(Error::deadline_exceeded(message))
            }
        }
    }
}

/// Why the connection to the exporter of a lease was lost.
async fn why_lost(lab: &Lab, lease: &str, exporter: &str) -> Error {
    match lab.lease_named(lease).await {
        Ok(found) if found.has_ended() => {
            Error::unavailable(format!("the lease {lease} of the exporter {exporter} has ended"))
                .with_hint("lease a device again, for longer: `--duration`")
        }
        _ => Error::unavailable(format!("the connection to the exporter {exporter} was lost"))
            .with_hint("try again: it, the router or the network failed"),
    }
}
