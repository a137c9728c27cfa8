//! Reports the exporter's state to the controller: the last one counts, and it is reported until
//! the controller has it.

use std::sync::Arc;
use std::time::Duration;

use jumpstarter_controller::{Controller, Pauses};
use jumpstarter_driver_core::{ErrorKind, Result};
use jumpstarter_exporter::{Session, State};
use jumpstarter_protocol::rpc::controller::{ReleaseLease, ReportStatus};
use jumpstarter_protocol::v1::{ExporterStatus, ReleaseLeaseRequest, ReportStatusRequest};
use tokio::sync::{Mutex, watch};
use tokio_util::task::AbortOnDropHandle;

use super::counted::Counted;

/// How long the release of a lease is tried while the controller is away.
const RELEASE_PATIENCE: Duration = Duration::from_secs(60);

/// A state with its message.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Report {
    status: ExporterStatus,
    message: String,
}

/// Reports states to the controller. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Reporter {
    controller: Controller,
    counted: Counted,
    wanted: Arc<watch::Sender<Option<Report>>>,
    /// The next report waits for the one before.
    turn: Arc<Mutex<()>>,
    _task: Arc<AbortOnDropHandle<()>>,
}

impl Reporter {
    pub(super) fn new(controller: Controller, counted: Counted) -> Self {
        let (wanted, news) = watch::channel(None);
        let turn = Arc::new(Mutex::new(()));
        let task =
            tokio::spawn(report_each(controller.clone(), counted.clone(), news, turn.clone()));
        let task = Arc::new(AbortOnDropHandle::new(task));
        Self { controller, counted, wanted: Arc::new(wanted), turn, _task: task }
    }

    /// Reports a state, soon. One that is not reported yet is given up.
    pub(super) fn report(&self, status: ExporterStatus, message: impl Into<String>) {
        self.wanted.send_replace(Some(Report { status, message: message.into() }));
    }

    /// Reports the current state once more: the controller may have lost it.
    pub(super) fn report_again(&self) {
        self.wanted.send_modify(|_| {});
    }

    /// Reports a state, once, and waits for the answer.
    ///
    /// # Errors
    /// The controller's.
    pub(super) async fn report_now(&self, status: ExporterStatus, message: &str) -> Result<()> {
        let report = Report { status, message: message.to_owned() };
        // It is reported here; only another connection reports it again.
        self.wanted.send_if_modified(|wanted| {
            *wanted = Some(report.clone());
            false
        });
        let _turn = self.turn.lock().await;
        tell(&self.controller, &self.counted, &report, false).await
    }

    /// Reports each state of a session, from the current one, until the returned task is dropped.
    /// After the last lease the exporter is not available any more, and the controller is not to
    /// give it out.
    pub(super) fn mirror(&self, session: &Session, is_last: bool) -> AbortOnDropHandle<()> {
        let (mut states, reporter) = (session.state().watch(), self.clone());
        AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let State { status, message, .. } = states.borrow_and_update().clone();
                if !(is_last && status == ExporterStatus::Available) {
                    reporter.report(status, message);
                }
                if states.changed().await.is_err() {
                    return;
                }
            }
        }))
    }

    /// Gives a lease back. An old controller learns it with a state instead: one in which it does
    /// not lease the exporter again.
    pub(super) async fn release(&self, lease: &str) {
        let request = ReleaseLeaseRequest { name: lease.to_owned() };
        let released = self.controller.call_patiently::<ReleaseLease>(&request, RELEASE_PATIENCE);
        let Err(error) = released.await else { return };
        let is_unknown = matches!(
            error.kind(),
            ErrorKind::PermissionDenied
                | ErrorKind::InvalidArgument
                | ErrorKind::Unauthenticated
                | ErrorKind::Unimplemented
        );
        match error.kind() {
            // It is over already.
            ErrorKind::NotFound | ErrorKind::FailedPrecondition => return,
            _ if !is_unknown => {
                tracing::warn!(error = error.report(), "the lease was not released");
                return;
            }
            _ => {}
        }
        let _turn = self.turn.lock().await;
        let report = Report {
            status: ExporterStatus::AfterLeaseHook,
            message: "Releasing the lease".to_owned(),
        };
        if let Err(error) = tell(&self.controller, &self.counted, &report, true).await {
            tracing::warn!(error = error.report(), "the lease was not released");
        }
    }
}

/// Reports a state.
async fn tell(
    controller: &Controller,
    counted: &Counted,
    report: &Report,
    releases: bool,
) -> Result<()> {
    let request = ReportStatusRequest {
        status: report.status.into(),
        message: Some(report.message.clone()),
        release_lease: releases.then_some(true),
    };
    let told = controller.call::<ReportStatus>(&request).await.map(drop);
    counted.change(|counts| match told {
        Ok(()) => counts.reports += 1,
        Err(_) => counts.failed_reports += 1,
    });
    told
}

/// Reports each wanted state, until it has it or another one is wanted.
async fn report_each(
    controller: Controller,
    counted: Counted,
    mut news: watch::Receiver<Option<Report>>,
    turn: Arc<Mutex<()>>,
) {
    let mut pauses = Pauses::new(Duration::from_millis(200), Duration::from_secs(10));
    loop {
        let wanted = news.borrow_and_update().clone();
        let failed = match wanted {
            None => false,
            Some(report) => {
                let _turn = turn.lock().await;
                // Another one may be wanted by now.
                if news.has_changed().unwrap_or(true) {
                    continue;
                }
                match tell(&controller, &counted, &report, false).await {
                    Ok(()) => false,
                    // A controller without states.
                    Err(error) if error.kind() == ErrorKind::Unimplemented => false,
                    Err(error) => {
                        let status = report.status.as_str_name();
                        tracing::debug!(status, error = error.report(), "a state was not reported");
                        true
                    }
                }
            }
        };
        let pause = if failed { pauses.next_pause() } else { Duration::MAX };
        if !failed {
            pauses.begin_anew();
        }
        tokio::select! {
            changed = news.changed() => if changed.is_err() {
                return;
            },
            () = tokio::time::sleep(pause), if failed => {}
        }
    }
}
