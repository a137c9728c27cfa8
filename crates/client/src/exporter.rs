//! An exporter that is connected to.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use jumpstarter_driver_core::{Backend, Channel, Device, Error, Result, ResultExt};
use jumpstarter_protocol::labels::NAME;
use jumpstarter_protocol::python::Implementation;
use jumpstarter_protocol::v1::{
    ExporterStatus, GetReportResponse, GetStatusRequest, LogSource, LogStreamResponse, ResetRequest,
};
use jumpstarter_protocol::{fields, rpc};

use crate::connection::Connection;
use crate::{Address, ConnectOptions, channel, report};

/// How often the state is asked for while it is waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// A connection to an exporter. Clones are the same connection.
///
/// It lives as long as the exporter's [`device`](Self::device), its handles or an `Exporter` is
/// held; closing the device ends it at once.
#[derive(Clone, Debug)]
pub struct Exporter {
    connection: Arc<Connection>,
    device: Device,
    /// Of each node of the device.
    uuids: Arc<[String]>,
    name: Option<String>,
    motd: Option<String>,
}

/// What an exporter is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExporterState {
    /// It does not say.
    Unspecified,
    /// It is going away.
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
    /// What it is doing.
    pub state: ExporterState,
    /// For people; may be empty.
    pub message: String,
}

/// A line of an exporter's log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogRecord {
    /// `DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`.
    pub severity: String,
    /// The text.
    pub message: String,
    /// Where it comes from: `driver`, `system`, `before-lease-hook` or `after-lease-hook`; none
    /// where not said.
    pub source: Option<&'static str>,
    /// The path of the driver that was called; an exporter in Python does not tell it.
    pub driver: Option<String>,
    /// The type of that driver.
    pub driver_type: Option<String>,
    /// The call during which it was written.
    pub operation: Option<String>,
    /// When it was written.
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
        let device =
            Device::remote(nodes, Arc::new(End(connection.clone()))).with_context(reading)?;
        Ok(Self { connection, device, uuids, name, motd })
    }

    /// Its device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What it is called.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What it says to who enters a shell.
    pub fn motd(&self) -> Option<&str> {
        self.motd.as_deref()
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.connection.address
    }

    /// Connects to the driver at `path` only to send bytes to it.
    ///
    /// The flag says whether the exporter ends its side, after
    /// [`finish`](jumpstarter_driver_core::Channel::finish), once the driver has taken
    /// everything, or with the error that kept it from that. An exporter in Python does not:
    /// its side ends when the driver likes, which may be never.
    ///
    /// Cancelling closes the stream.
    ///
    /// # Errors
    /// `NotFound` for a path or a method that does not exist; the driver's own; `Unavailable` when
    /// the exporter went away.
    pub async fn connect_to_send(&self, path: &str, method: &str) -> Result<(Channel, bool)> {
        let wanted = self.device.node(path)?.path();
        let position = self.device.nodes().iter().position(|node| node.path() == wanted);
        let uuid = position.and_then(|position| self.uuids.get(position));
        let uuid =
            uuid.ok_or_else(|| Error::internal(format!("the driver `{path}` has no number")))?;
        channel::connect_to_send(&self.connection, uuid, method).await
    }

    /// What it is doing.
    ///
    /// # Errors
    /// `Unavailable` when it went away.
    pub async fn status(&self) -> Result<Status> {
        let answer = self
            .connection
            .unary::<rpc::GetStatus>(&GetStatusRequest {}, "asking for the exporter's state")
            .await?;
        Ok(Status { state: answer.status().into(), message: answer.message.unwrap_or_default() })
    }

    /// Waits until it takes calls.
    ///
    /// # Errors
    /// `FailedPrecondition` as soon as it cannot become ready any more, `DeadlineExceeded` after
    /// `limit`, `Unavailable` when it went away.
    pub async fn wait_ready(&self, limit: Duration) -> Result<()> {
        let waiting = async {
            loop {
                let status = self.status().await?;
                match status.state {
                    ExporterState::Ready => return Ok(()),
                    ExporterState::BeforeLeaseHookFailed
                    | ExporterState::AfterLeaseHookFailed
                    | ExporterState::Offline => {
                        let message = format!("the exporter at {} is not usable", self.address());
                        let why = Some(status.message).filter(|text| !text.is_empty());
                        let why = why.unwrap_or_else(|| format!("its state is {:?}", status.state));
                        return Err(Error::failed_precondition(format!("{message}: {why}")));
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

    /// Its log: every record from the subscription on, which holds when this returns. Dropping the
    /// stream ends it.
    ///
    /// An exporter in Python keeps its last 256 records until one of its clients has read them:
    /// what it says may be older, and what another client reads is missing.
    ///
    /// # Errors
    /// As [`status`](Self::status). The log has no end of its own: the stream's last item is an
    /// error, `Unavailable` when the exporter goes away, also in order.
    pub async fn logs(&self) -> Result<BoxStream<'static, Result<LogRecord>>> {
        let doing = "following the exporter's log";
        let records = self.connection.streaming::<rpc::LogStream>(&(), doing).await?;
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

    /// Waits until the connection is gone, and says so: to be told at once, whether or not a call
    /// is under way.
    pub async fn lost(&self) -> Error {
        let end = self.connection.ended().await;
        self.connection.error_of(&end)
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

/// The far end, as the device's handle asks of it.
#[derive(Debug)]
struct End(Arc<Connection>);

#[async_trait]
impl Backend for End {
    async fn reset(&self) -> Result<()> {
        self.0.unary::<rpc::Reset>(&ResetRequest {}, "resetting the device").await.map(drop)
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await;
        Ok(())
    }
}
