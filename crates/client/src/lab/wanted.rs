//! The device that is wanted: which one, for how long.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::IntoFuture;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jumpstarter_driver_core::{Device, Error, Result};
use jumpstarter_protocol::client::v1;

use super::Lab;

/// The variable that names a lease.
const LEASE: &str = "JMP_LEASE";
/// The variable with the labels of a device that is leased.
const SELECTOR: &str = "JMP_SELECTOR";

/// The device that is wanted, and for how long.
///
/// Awaiting it leases the device from the lab of [`Lab::from_env`]; [`Lab::lease`] does so from any
/// lab, and says why it waits.
#[derive(Clone, Debug)]
pub struct Wanted {
    selector: String,
    exporter: Option<String>,
    pub(super) existing: Option<String>,
    duration: Duration,
    begin_time: Option<SystemTime>,
    tags: BTreeMap<String, String>,
    context: BTreeMap<String, String>,
    allow_disabled: bool,
    pub(super) acquisition_limit: Option<Duration>,
}

impl Wanted {
    fn new(selector: String, exporter: Option<String>, existing: Option<String>) -> Self {
        Self {
            selector,
            exporter,
            existing,
            duration: Duration::from_secs(30 * 60),
            begin_time: None,
            tags: BTreeMap::new(),
            context: BTreeMap::new(),
            allow_disabled: false,
            acquisition_limit: None,
        }
    }

    /// A device whose exporter has these labels, such as `board=rpi4,arch in (arm64,armhf)`.
    pub fn selector(selector: impl Into<String>) -> Self {
        Self::new(selector.into(), None, None)
    }

    /// The device of this exporter.
    pub fn exporter(name: impl Into<String>) -> Self {
        Self::new(String::new(), Some(name.into()), None)
    }

    /// The device of a lease that exists. It is not released at the end.
    pub fn existing(lease: impl Into<String>) -> Self {
        Self::new(String::new(), None, Some(lease.into()))
    }

    /// The device that the environment names: of the lease `JMP_LEASE`, else one with the labels
    /// `JMP_SELECTOR`. An empty variable counts as unset.
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let text = |name: &str| {
            let value = variable(name)?.into_string().ok()?;
            (!value.is_empty()).then_some(value)
        };
        text(LEASE).map(Self::existing).or_else(|| text(SELECTOR).map(Self::selector))
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

    /// Sets how long an exporter is waited for; default: that of the client's file, or 2 hours.
    #[must_use]
    pub fn acquisition_limit(mut self, limit: Duration) -> Self {
        self.acquisition_limit = Some(limit);
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

impl IntoFuture for Wanted {
    type Output = Result<Device>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        async move {
            let waits = |why: &str| tracing::info!(why, "waiting for a device");
            let lease = Lab::from_env()?.lease(self, waits).await?;
            Ok(lease.open().await?.device().clone())
        }
        .boxed()
    }
}
