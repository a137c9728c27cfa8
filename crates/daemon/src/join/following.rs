//! Who leases the exporter, as the controller says it: a stream that is opened again whenever it
//! ends.

use std::path::PathBuf;
use std::time::Duration;

use jumpstarter_config::ExporterConfig;
use jumpstarter_controller::{Controller, Pauses, Refusal};
use jumpstarter_driver_core::{Error, Result, Secret};
use jumpstarter_exporter::LogHub;
use jumpstarter_protocol::rpc::controller::Status;
use jumpstarter_protocol::v1::{StatusRequest, StatusResponse};
use tokio::sync::watch;
use tokio::time::Instant;

use super::counted::Counted;
use super::reporter::Reporter;
use crate::RunOptions;

/// A lease of this exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leased {
    pub(super) lease: String,
    pub(super) client: String,
}

impl Leased {
    /// Names the lease and its client in the log and the metrics.
    pub(super) fn name_in(&self, logs: &LogHub, counted: &Counted) {
        logs.set_lease(Some((&self.lease, &self.client)));
        counted.change(|counts| counts.lease = Some((self.lease.clone(), self.client.clone())));
    }
}

/// What the controller said last; `None` before it said anything.
pub(super) type Assignment = Option<Option<Leased>>;

/// The token of the exporter file, and how long the controller has refused it.
#[derive(Debug)]
pub(super) struct Credentials {
    controller: Controller,
    file: PathBuf,
    /// How long a refused token is tried, and looked for in the file again.
    patience: Duration,
    refused_since: Option<Instant>,
}

impl Credentials {
    pub(super) fn new(controller: Controller, options: &RunOptions) -> Self {
        let file = PathBuf::from(&options.config.origin);
        Self { controller, file, patience: options.token_patience, refused_since: None }
    }

    /// The controller took the token.
    fn accepted(&mut self) {
        if self.refused_since.take().is_some() {
            tracing::info!("the controller takes the token again");
        }
    }

    /// Looks for a new token after an error. Logs a refusal once.
    ///
    /// # Errors
    /// The refusal, after the options' patience.
    pub(super) async fn heed(&mut self, error: Error) -> Result<()> {
        let refusal = Refusal::of(&error);
        if !refusal.is_some_and(|refusal| refusal.is_of_the_token() || refusal == Refusal::Missing)
        {
            return Ok(());
        }
        let since = match self.refused_since {
            Some(since) => since,
            None => {
                let what = match refusal {
                    Some(Refusal::Expired) => "the token has expired",
                    _ => "the controller refuses the token",
                };
                tracing::error!(
                    error = error.report(),
                    "{what}: write a new one into the exporter file, which is looked at for {:?}",
                    self.patience
                );
                *self.refused_since.insert(Instant::now())
            }
        };
        if since.elapsed() > self.patience {
            return Err(Error::unauthenticated("the controller refuses the exporter")
                .with_source(error)
                .with_hint(
                    "get a new token from who runs the lab, and write it into `token` of the \
                     exporter file",
                ));
        }
        self.look_for_another().await;
        Ok(())
    }

    /// Uses the token that the file has now.
    async fn look_for_another(&self) {
        let file = self.file.clone();
        let read = move || {
            let config = ExporterConfig::load(&file).ok()?;
            config.settings.token?.resolve().ok()
        };
        let found: Option<Secret> = tokio::task::spawn_blocking(read).await.ok().flatten();
        if let Some(token) = found {
            let identity = self.controller.identity();
            if token.expose() != identity.token().expose() {
                tracing::info!("the exporter file has a new token");
                identity.set_token(token);
            }
        }
    }
}

/// Follows who leases the exporter, for ever. The state is reported again whenever the stream has
/// begun.
///
/// # Errors
/// The controller's refusal of the token, after the options' patience.
pub(super) async fn follow(
    controller: Controller,
    counted: Counted,
    mut credentials: Credentials,
    reporter: Reporter,
    assignment: watch::Sender<Assignment>,
) -> Result<()> {
    let mut pauses = Pauses::new(Duration::from_millis(200), Duration::from_secs(10));
    let mut is_joined = false;
    loop {
        let ended = read(
            &controller,
            |message| {
                if !std::mem::replace(&mut is_joined, true) {
                    tracing::info!(endpoint = %controller.endpoint(), "the controller answers");
                    counted.change(|counts| {
                        counts.is_connected = true;
                        counts.connections += 1;
                    });
                }
                pauses.begin_anew();
                credentials.accepted();
                assignment.send_if_modified(|known| {
                    let now = Some(leased(message));
                    let is_new = *known != now;
                    *known = now;
                    is_new
                });
            },
            &reporter,
        );
        let ended = ended.await;
        if std::mem::replace(&mut is_joined, false) {
            counted.change(|counts| counts.is_connected = false);
            let error = ended.as_ref().err().map(Error::report);
            tracing::warn!(error, "the controller is away: the lease goes on without it");
        }
        match ended {
            Ok(()) => tracing::debug!("the controller ended the stream of leases"),
            Err(error) => {
                tracing::debug!(error = error.report(), "the stream of leases broke");
                credentials.heed(error).await?;
            }
        }
        pauses.wait().await;
    }
}

/// Reads one stream to its end.
async fn read(
    controller: &Controller,
    mut each: impl FnMut(StatusResponse),
    reporter: &Reporter,
) -> Result<()> {
    let mut stream = controller.follow::<Status>(&StatusRequest {}).await?;
    let mut is_first = true;
    while let Some(message) = stream.next().await? {
        each(message);
        if std::mem::take(&mut is_first) {
            reporter.report_again();
        }
    }
    Ok(())
}

fn leased(message: StatusResponse) -> Option<Leased> {
    let lease = message.lease_name.filter(|name| message.leased && !name.is_empty())?;
    Some(Leased { lease, client: message.client_name.unwrap_or_default() })
}
