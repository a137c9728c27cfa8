//! `remote`: a device of another exporter, or a branch of one.

use std::future::ready;
use std::time::Duration;

use futures_util::FutureExt;
use jumpstarter_client::{Address, ConnectOptions, Exporter, connect};
use jumpstarter_driver_core::Mount;
use jumpstarter_driver_core::prelude::*;
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

use crate::log;

/// The timeout of a call: none, since the exporter's clients have one.
pub(crate) const NO_LIMIT: Duration = Duration::from_secs(u32::MAX as u64);

/// A device that another exporter serves, or a branch of one. The exporter may be this project's or
/// the one in Python.
///
/// The tree is read when the device is opened. Calls, streams and images pass through unchanged.
#[config]
#[derive(Clone, Debug)]
pub struct RemoteConfig {
    /// Address of the exporter: HOST:PORT, or the path of its Unix socket.
    pub address: String,
    /// Security of a TCP connection; by default TLS with the system's authorities.
    #[serde(default)]
    pub tls: RemoteTls,
    /// Passphrase that the exporter requires.
    #[serde(default)]
    pub passphrase: Option<Secret>,
    /// Dotted path of the branch, such as `rack.board`; by default the whole device.
    #[serde(default)]
    pub path: String,
}

/// Security of a TCP connection to another exporter.
#[config]
#[derive(Clone, Debug, Default)]
#[serde(default)]
pub struct RemoteTls {
    /// No TLS: everybody on the network path can read everything, the passphrase too.
    pub insecure: bool,
    /// A PEM file of authorities to trust instead of the system's.
    pub ca: Option<HostPath>,
    /// A PEM file of a certificate to present to the exporter.
    pub certificate: Option<HostPath>,
    /// The PEM file of that certificate's key.
    pub key: Option<HostPath>,
}

#[async_trait]
impl DriverConfig for RemoteConfig {
    const NAME: &'static str = "remote";
    const IS_INDEPENDENT: bool = true;
    type Driver = Remote;

    fn check(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        match self.address.parse::<Address>() {
            Err(error) => {
                let mut problem = ConfigProblem::new("address", error.to_string());
                problem.hint = error.hint().map(str::to_owned);
                problems.push(problem);
            }
            Ok(Address::Unix(_)) if !self.tls.is_default() => {
                problems.push(ConfigProblem::new("tls", "a Unix socket has no TLS"));
            }
            Ok(_) => {}
        }
        let tls = &self.tls;
        if tls.insecure && (tls.ca.is_some() || tls.certificate.is_some()) {
            problems.push(ConfigProblem::new("tls", "`insecure` says that there is no TLS"));
        }
        if tls.certificate.is_some() != tls.key.is_some() {
            let problem = "a certificate and its key go together";
            problems.push(ConfigProblem::new("tls", problem));
        }
        problems
    }

    fn children(&self) -> Option<Vec<PlannedChild>> {
        None
    }

    async fn open(self, context: OpenContext) -> Result<Remote> {
        let options = self.options(&context.path).await?;
        let link = Link::open(&options, &context.path).await?;
        let mount = link.exporter.device().mount(&self.path)?;
        let is_whole = self.path.is_empty();
        Ok(Remote { options, is_whole, place: context.path, mount, link: Mutex::new(link) })
    }
}

register_driver!(RemoteConfig);

impl RemoteTls {
    fn is_default(&self) -> bool {
        !self.insecure && self.ca.is_none() && self.certificate.is_none() && self.key.is_none()
    }
}

impl RemoteConfig {
    async fn options(&self, place: &str) -> Result<ConnectOptions> {
        let gone = Error::unavailable(format!(
            "the exporter at {}, whose device is mounted at `{place}`, went away",
            self.address
        ))
        .with_hint("the device is connected anew when it is reset, and for the next session");
        let mut options = ConnectOptions::new(self.address.parse()?)
            .call_timeout(NO_LIMIT)
            .explained_by(ready(gone));
        if self.tls.insecure {
            options = options.insecure();
        }
        if let Some(ca) = &self.tls.ca {
            options = options.ca_file(ca.located().await);
        }
        if let (Some(certificate), Some(key)) = (&self.tls.certificate, &self.tls.key) {
            options = options.client_certificate(certificate.located().await, key.located().await);
        }
        if let Some(passphrase) = &self.passphrase {
            options = options.passphrase(passphrase.clone());
        }
        Ok(options)
    }
}

/// A connection, and the task that follows its log.
#[derive(Debug)]
struct Link {
    exporter: Exporter,
    _log: AbortOnDropHandle<()>,
}

impl Link {
    async fn open(options: &ConnectOptions, place: &str) -> Result<Self> {
        let exporter = connect(options).await.map_err(in_the_file)?;
        let log = log::follow(&exporter, place);
        Ok(Self { exporter, _log: log })
    }
}

/// Names the fields of this configuration in the place of a client's variables.
fn in_the_file(error: Error) -> Error {
    const HINTS: [(&str, &str); 5] = [
        ("JMP_GRPC_CA", "name the exporter's authority, a PEM file, in `tls.ca`"),
        ("JMP_GRPC_CERT", "present a certificate: `tls.certificate` and `tls.key`"),
        ("JMP_GRPC_PASSPHRASE", "check `passphrase`"),
        ("leave out JMP_GRPC_INSECURE", "leave out `tls.insecure`"),
        ("JMP_GRPC_INSECURE", "check the port; an exporter without TLS needs `tls.insecure: true`"),
    ];
    let hint = error.hint().unwrap_or_default();
    match HINTS.iter().find(|(variable, _)| hint.contains(variable)) {
        Some((_, hint)) => error.with_hint(*hint),
        None => error,
    }
}

/// Represents a device that another exporter serves, or a branch of one.
#[derive(Debug)]
pub struct Remote {
    options: ConnectOptions,
    is_whole: bool,
    place: String,
    mount: Mount,
    link: Mutex<Link>,
}

impl Remote {
    /// Returns whether the connection was lost.
    async fn connect_again(&self, link: &mut Link) -> Result<bool> {
        let is_lost = link.exporter.lost().now_or_never().is_some();
        if is_lost {
            let next = Link::open(&self.options, &self.place).await?;
            next.exporter.device().remount(&self.mount)?;
            *link = next;
        }
        Ok(is_lost)
    }
}

#[async_trait]
impl Driver for Remote {
    fn mount(&self) -> Option<Mount> {
        Some(self.mount.clone())
    }

    /// Connects again if the connection is lost. Otherwise it resets the other device, if the whole
    /// device is mounted: a branch can only be reset with the rest, which may have other users.
    async fn reset(&self) -> Result<()> {
        let mut link = self.link.lock().await;
        if self.connect_again(&mut link).await? || !self.is_whole {
            return Ok(());
        }
        match link.exporter.device().reset().await {
            // The exporter in Python lacks this call.
            Err(error) if error.kind() == ErrorKind::Unimplemented => Ok(()),
            outcome => outcome,
        }
    }

    /// Connects again if the connection is lost.
    async fn renew(&self) -> Result<()> {
        self.connect_again(&mut *self.link.lock().await).await.map(drop)
    }

    async fn close(&self) -> Result<()> {
        self.link.lock().await.exporter.device().close().await
    }
}
