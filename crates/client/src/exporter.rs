//! A connected exporter.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::HeaderValue;
use jumpstarter_driver_core::{Backend, Channel, Device, Error, ErrorKind, Result, ResultExt};
use jumpstarter_protocol::labels::NAME;
use jumpstarter_protocol::python::Implementation;
use jumpstarter_protocol::v1::{
    EndSessionRequest, ExporterStatus, GetReportResponse, GetStatusRequest, LogSource,
    LogStreamResponse, ResetRequest,
};
use jumpstarter_protocol::{fields, metadata, rpc};

use crate::connection::Connection;
use crate::{Address, ConnectOptions, channel, report};

/// How often the state is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The prefix of a warning in the exporter's state.
pub(crate) const HOOK_WARNING: &str = "[HOOK_WARNING] ";

/// A connection to an exporter. Clones share it.
///
/// It stays open while the exporter's [`device`](Self::device), one of its handles or an `Exporter`
/// is held; closing the device ends it at once.
#[derive(Clone, Debug)]
pub struct Exporter {
    pub(crate) connection: Arc<Connection>,
    device: Device,
    /// The uuid of each node of the device.
    uuids: Arc<[String]>,
    name: Option<String>,
    motd: Option<String>,
}

/// The phase of an exporter: whether it accepts calls, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExporterState {
    /// The exporter does not report it.
    Unspecified,
    /// It is stopping.
    Offline,
    /// It waits for a lease.
    Available,
    /// It prepares the lease.
    BeforeLeaseHook,
    /// It takes calls.
    Ready,
    /// It ends the lease.
    AfterLeaseHook,
    /// It could not prepare the lease.
    BeforeLeaseHookFailed,
    /// It could not end the lease.
    AfterLeaseHookFailed,
}

impl From<ExporterStatus> for ExporterState {
    fn from(status: ExporterStatus) -> Self {
        match status {
            ExporterStatus::Unspecified => Self::Unspecified,
            ExporterStatus::Offline => Self::Offline,
            ExporterStatus::Available => Self::Available,
            ExporterStatus::BeforeLeaseHook => Self::BeforeLeaseHook,
            ExporterStatus::LeaseReady => Self::Ready,
            ExporterStatus::AfterLeaseHook => Self::AfterLeaseHook,
            ExporterStatus::BeforeLeaseHookFailed => Self::BeforeLeaseHookFailed,
            ExporterStatus::AfterLeaseHookFailed => Self::AfterLeaseHookFailed,
        }
    }
}

/// The state of an exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The phase of its lease.
    pub state: ExporterState,
    /// The phase before it; `None` if the exporter does not say.
    pub previous: Option<ExporterState>,
    /// For people; may be empty.
    pub message: String,
}

impl Status {
    /// Why an exporter that cannot be used cannot be: its text, after the hook that failed.
    pub fn reason(&self) -> String {
        let of_hook = |state| match state {
            ExporterState::BeforeLeaseHookFailed => Some("beforeLease hook failed"),
            ExporterState::AfterLeaseHookFailed => Some("afterLease hook failed"),
            _ => None,
        };
        // An exporter that ends because of a hook reports that it is offline at once.
        let hook = of_hook(self.state).or_else(|| self.previous.and_then(of_hook));
        match (hook, self.message.as_str()) {
            (Some(hook), "") => hook.to_owned(),
            (Some(hook), message) if !message.contains(hook) => format!("{hook}: {message}"),
            (None, "") if self.state == ExporterState::Offline => "it is offline".to_owned(),
            (None, "") => format!("its state is {:?}", self.state),
            (_, message) => message.to_owned(),
        }
    }
}

/// A line of an exporter's log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogRecord {
    /// `DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`.
    pub severity: String,
    /// One line or several, without a trailing newline.
    pub message: String,
    /// The origin: `driver`, `system`, `before-lease-hook` or `after-lease-hook`; `None` if the
    /// exporter does not say.
    pub source: Option<&'static str>,
    /// The path of the called driver; an exporter in Python does not report it.
    pub driver: Option<String>,
    /// The type of that driver.
    pub driver_type: Option<String>,
    /// The call during which it was written.
    pub operation: Option<String>,
    /// The exporter's time when it was written.
    pub timestamp: Option<SystemTime>,
    /// Further fields, sorted by name.
    pub fields: Vec<(String, String)>,
}

impl Exporter {
    pub(crate) fn new(
        connection: Arc<Connection>,
        report: GetReportResponse,
        options: &ConnectOptions,
    ) -> Result<Self> {
        let nodes = || report.reports.iter().map(Implementation::of_node);
        if nodes().any(Implementation::answers_heartbeats) {
            connection.keep_alive(options.keepalive);
        }
        let name = report.labels.get(NAME).filter(|name| !name.is_empty()).cloned();
        let motd = Some(report.motd).filter(|motd| !motd.is_empty());
        let uuids = report.reports.iter().map(|node| node.uuid.clone()).collect();
        let reading = || format!("reading the report of the exporter at {}", options.address);
        let nodes = report::nodes(&connection, report.reports).with_context(reading)?;
        let end = Arc::new(End(connection.clone()));
        let device = Device::remote(nodes, end).with_context(reading)?;
        Ok(Self { connection, device, uuids, name, motd })
    }

    /// The handle to its drivers. Closing it ends the connection.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Its configured name.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Its message of the day, for people who enter a shell.
    pub fn motd(&self) -> Option<&str> {
        self.motd.as_deref()
    }

    /// The address that this connection uses.
    pub fn address(&self) -> &Address {
        &self.connection.address
    }

    /// Connects to the driver at `path` only to send bytes to it.
    ///
    /// The flag says whether the exporter ends its side, after
    /// [`finish`](jumpstarter_driver_core::Channel::finish), once the driver has accepted
    /// everything, or with the error that prevented it. An exporter in Python does not: its side
    /// ends when the driver ends, possibly never.
    ///
    /// Cancelling closes the stream.
    ///
    /// # Errors
    /// `NotFound` for a path or a method that does not exist; the driver's errors; `Unavailable` if
    /// the connection is lost.
    pub async fn connect_to_send(&self, path: &str, method: &str) -> Result<(Channel, bool)> {
        let wanted = self.device.node(path)?.path();
        let position = self.device.nodes().iter().position(|node| node.path() == wanted);
        let uuid = position.and_then(|position| self.uuids.get(position));
        let uuid =
            uuid.ok_or_else(|| Error::internal(format!("the driver `{path}` has no number")))?;
        channel::connect_to_send(&self.connection, uuid, method).await
    }

    /// Asks for its current state.
    ///
    /// # Errors
    /// `Unavailable` if the connection is lost.
    pub async fn status(&self) -> Result<Status> {
        self.connection.status().await
    }

    /// Ends the session of a lease: the exporter's afterLease hook runs. Returns whether the
    /// exporter does so; an old one has no sessions.
    ///
    /// # Errors
    /// The errors of [`status`](Self::status).
    pub async fn end_session(&self) -> Result<bool> {
        self.connection.end_session().await
    }

    /// Waits until it accepts calls. An old exporter has no state, and accepts them always.
    ///
    /// # Errors
    /// `FailedPrecondition` as soon as it cannot become ready any more, `DeadlineExceeded` after
    /// `limit`, `Unavailable` if the connection is lost.
    pub async fn wait_ready(&self, limit: Duration) -> Result<()> {
        let waiting = async {
            loop {
                let status = match self.status().await {
                    Err(error) if error.kind() == ErrorKind::Unimplemented => return Ok(()),
                    status => status?,
                };
                match status.state {
                    ExporterState::Ready => {
                        if let Some(warning) = status.message.strip_prefix(HOOK_WARNING) {
                            tracing::warn!("{warning}");
                        }
                        return Ok(());
                    }
                    ExporterState::BeforeLeaseHookFailed
                    | ExporterState::AfterLeaseHookFailed
                    | ExporterState::Offline => {
                        let message = format!("the exporter at {} is not usable", self.address());
                        let message = format!("{message}: {}", status.reason());
                        return Err(Error::failed_precondition(message));
                    }
                    _ => tokio::time::sleep(POLL_INTERVAL).await,
                }
            }
        };
        tokio::time::timeout(limit, waiting).await.unwrap_or_else(|_| {
            let message =
                format!("the exporter at {} was not ready within {limit:?}", self.address());
            Err(Error::deadline_exceeded(message))
        })
    }

    /// Subscribes to its log; the subscription is active when this returns. Dropping the stream
    /// ends it.
    ///
    /// An exporter in Python keeps its last 256 records until a client reads them: records may be
    /// older than the subscription, and those that another client reads are missing.
    ///
    /// # Errors
    /// The errors of [`status`](Self::status). The log never ends by itself: the stream's last item
    /// is an error, `Unavailable` if the exporter stops or is lost.
    pub async fn logs(&self) -> Result<BoxStream<'static, Result<LogRecord>>> {
        self.selected_logs(Vec::new()).await
    }

    /// Subscribes to the output of hooks, as [`logs`](Self::logs). An exporter that cannot select
    /// sends all records.
    ///
    /// # Errors
    /// As [`logs`](Self::logs).
    pub async fn hook_logs(&self) -> Result<BoxStream<'static, Result<LogRecord>>> {
        let hooks = HeaderValue::from_static(metadata::HOOKS);
        self.selected_logs(vec![(metadata::RECORDS, hooks)]).await
    }

    async fn selected_logs(
        &self,
        selection: Vec<(&'static str, HeaderValue)>,
    ) -> Result<BoxStream<'static, Result<LogRecord>>> {
        let doing = "following the exporter's log";
        let records = self.connection.streaming::<rpc::LogStream>(selection, &(), doing).await?;
        let connection = self.connection.clone();
        let records = futures_util::stream::unfold(Some(records), move |records| {
            let connection = connection.clone();
            async move {
                let mut records = records?;
                match records.next().await {
                    Some(Ok(record)) => Some((Ok(record.into()), Some(records))),
                    Some(Err(error)) => Some((Err(connection.explain(error, doing).await), None)),
                    None => Some((Err(connection.explain_end(doing).await), None)),
                }
            }
        });
        Ok(records.boxed())
    }

    /// Waits until the connection ends, and returns the reason at once, even without a call under
    /// way.
    pub async fn lost(&self) -> Error {
        let end = self.connection.ended().await;
        self.connection.explanation_of(&end).await
    }
}

impl From<LogStreamResponse> for LogRecord {
    fn from(mut record: LogStreamResponse) -> Self {
        let source = match record.source() {
            LogSource::Unspecified => None,
            LogSource::Driver => Some("driver"),
            LogSource::BeforeLeaseHook => Some("before-lease-hook"),
            LogSource::AfterLeaseHook => Some("after-lease-hook"),
            LogSource::System => Some("system"),
        };
        Self {
            source,
            driver: record.structured_fields.remove(fields::DRIVER),
            severity: record.severity,
            message: record.message,
            driver_type: record.driver_type,
            operation: record.operation,
            timestamp: record.timestamp.and_then(|timestamp| timestamp.try_into().ok()),
            fields: report::sorted(record.structured_fields),
        }
    }
}

/// The remote end, for the device's handle.
#[derive(Debug)]
struct End(Arc<Connection>);

#[async_trait]
impl Backend for End {
    async fn reset(&self) -> Result<()> {
        self.0.unary::<rpc::Reset>(&ResetRequest {}, "resetting the device").await.map(drop)
    }

    async fn close(&self) -> Result<()> {
        #[cfg(feature = "lab")]
        if let Some(lease) = &self.0.lease {
            return lease.close(&self.0).await;
        }
        self.0.close().await;
        Ok(())
    }
}

impl Connection {
    pub(crate) async fn status(&self) -> Result<Status> {
        let doing = "asking for the exporter's state";
        let answer = self.unary::<rpc::GetStatus>(&GetStatusRequest {}, doing).await?;
        let previous = answer.previous_status.map(|_| answer.previous_status().into());
        let message = answer.message.clone().unwrap_or_default();
        Ok(Status { state: answer.status().into(), previous, message })
    }

    pub(crate) async fn end_session(&self) -> Result<bool> {
        let doing = "ending the session";
        match self.unary::<rpc::EndSession>(&EndSessionRequest {}, doing).await {
            Ok(answer) => Ok(answer.success),
            Err(error) if error.kind() == ErrorKind::Unimplemented => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unusable_exporter_has_a_reason() {
        use ExporterState::{BeforeLeaseHook, BeforeLeaseHookFailed, Offline};
        for (state, previous, message, expected) in [
            (Offline, None, "", "it is offline"),
            (Offline, Some(BeforeLeaseHook), "Exporter shutting down", "Exporter shutting down"),
            (
                Offline,
                Some(BeforeLeaseHookFailed),
                "Exporter shutting down",
                "beforeLease hook failed: Exporter shutting down",
            ),
            (BeforeLeaseHookFailed, None, "", "beforeLease hook failed"),
            (
                BeforeLeaseHookFailed,
                None,
                "beforeLease hook failed (on_failure=endLease): x",
                "beforeLease hook failed (on_failure=endLease): x",
            ),
        ] {
            let status = Status { state, previous, message: message.to_owned() };
            assert_eq!(status.reason(), expected);
        }
    }
}
