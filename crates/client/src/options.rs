//! How to connect: address, security, and timeouts.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use jumpstarter_driver_core::{Error, Result, Secret};

use crate::Address;

/// The timeout of connecting, with the report.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout of a call: drivers that boot, fetch or wait take minutes.
const CALL_TIMEOUT: Duration = Duration::from_secs(300);
/// How long an image under way may stop moving.
const STALL_TIMEOUT: Duration = Duration::from_secs(120);
/// How long an exporter may work on an image while nothing of it moves over the connection.
const IMAGE_TIMEOUT: Duration = Duration::from_secs(3600);
/// How often a silent exporter is asked for a sign of life.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// The address of an exporter, and how to talk to it.
///
/// ```
/// use jumpstarter_client::ConnectOptions;
/// # fn main() -> jumpstarter_driver_core::Result<()> {
/// let options = ConnectOptions::new("lab.example:8082".parse()?)
///     .passphrase("s3cret")
///     .ca_file("lab-ca.pem");
/// # let _ = options; Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    pub(crate) address: Address,
    pub(crate) insecure: bool,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) client_certificate: Option<(PathBuf, PathBuf)>,
    pub(crate) passphrase: Option<Secret>,
    pub(crate) connect_timeout: Duration,
    pub(crate) call_timeout: Duration,
    pub(crate) stall_timeout: Duration,
    pub(crate) image_timeout: Duration,
    pub(crate) keepalive: Duration,
    pub(crate) explanation: Option<Explanation>,
    /// The lease that the connection holds.
    #[cfg(feature = "lab")]
    pub(crate) lease: Option<Arc<crate::lab::Lease>>,
}

/// Why a connection was lost, once that is known.
#[derive(Clone)]
pub(crate) struct Explanation(pub(crate) Shared<BoxFuture<'static, Arc<Error>>>);

impl fmt::Debug for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Explanation")
    }
}

impl ConnectOptions {
    /// TLS with the system's authorities on TCP, plain on a Unix socket; no passphrase.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            insecure: false,
            ca_file: None,
            client_certificate: None,
            passphrase: None,
            connect_timeout: CONNECT_TIMEOUT,
            call_timeout: CALL_TIMEOUT,
            stall_timeout: STALL_TIMEOUT,
            image_timeout: IMAGE_TIMEOUT,
            keepalive: KEEPALIVE,
            explanation: None,
            #[cfg(feature = "lab")]
            lease: None,
        }
    }

    /// Reads the environment: `JUMPSTARTER_HOST`, `JMP_GRPC_INSECURE` or its older name
    /// `JUMPSTARTER_GRPC_INSECURE` (`1`: TCP without TLS), `JMP_GRPC_PASSPHRASE`, `JMP_GRPC_CA` or
    /// `GRPC_DEFAULT_SSL_ROOTS_FILE_PATH` (a PEM file of authorities), and `JMP_GRPC_CERT` with
    /// `JMP_GRPC_KEY` (PEM files of a client's certificate). An empty variable counts as unset.
    ///
    /// # Errors
    /// `FailedPrecondition` without `JUMPSTARTER_HOST`, `InvalidArgument` if it is not an address.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// As [`from_env`](Self::from_env), from these variables.
    ///
    /// # Errors
    /// The errors of [`from_env`](Self::from_env).
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        Self::read(None, variable)
    }

    /// As [`from_env`](Self::from_env), with another address than that of `JUMPSTARTER_HOST`.
    ///
    /// # Errors
    /// `InvalidArgument` unless it is an address.
    pub fn to(address: &str) -> Result<Self> {
        Self::read(Some(address), |name| std::env::var_os(name))
    }

    fn read(address: Option<&str>, variable: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| {
            let value = variable(name).map(|value| value.into_string());
            value.transpose().map_err(|_| Error::invalid_argument(format!("{name} is not UTF-8")))
        };
        let address = match address {
            Some(address) => address.parse()?,
            None => {
                let host = text("JUMPSTARTER_HOST")?.ok_or_else(|| {
                    Error::failed_precondition("JUMPSTARTER_HOST is not set").with_hint(
                        "set it to an exporter's socket or HOST:PORT, or run this inside `jmp shell`",
                    )
                })?;
                host.parse().map_err(|error: Error| error.context("reading JUMPSTARTER_HOST"))?
            }
        };
        let mut options = Self::new(address);
        // The second one is its older name.
        let insecure = text("JMP_GRPC_INSECURE")?
            .map_or_else(|| text("JUMPSTARTER_GRPC_INSECURE"), |value| Ok(Some(value)));
        options.insecure = insecure?
            .is_some_and(|value| !["0", "false"].contains(&value.to_ascii_lowercase().as_str()));
        options.passphrase = text("JMP_GRPC_PASSPHRASE")?.map(Secret::new);
        options.ca_file = variable("JMP_GRPC_CA")
            .or_else(|| variable("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"))
            .map(PathBuf::from);
        options.client_certificate = variable("JMP_GRPC_CERT")
            .zip(variable("JMP_GRPC_KEY"))
            .map(|(certificate, key)| (certificate.into(), key.into()));
        Ok(options)
    }

    /// Uses TCP without TLS: everybody on the network path can read everything, the passphrase too.
    #[must_use]
    pub fn insecure(mut self) -> Self {
        self.insecure = true;
        self
    }

    /// Trusts the authorities of this PEM file instead of the system's.
    #[must_use]
    pub fn ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(file.into());
        self
    }

    /// Shows a certificate to exporters that ask for one; both files are PEM.
    #[must_use]
    pub fn client_certificate(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.client_certificate = Some((certificate.into(), key.into()));
        self
    }

    /// Sends a passphrase with every call.
    #[must_use]
    pub fn passphrase(mut self, passphrase: impl Into<Secret>) -> Self {
        self.passphrase = Some(passphrase.into());
        self
    }

    /// Sets the timeout of connecting, the report of the tree included; default: 10 seconds.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Sets the timeout of a call's answer, or of opening a stream; default: 5 minutes. Calls with
    /// images have other limits: see [`stall_timeout`](Self::stall_timeout) and
    /// [`image_timeout`](Self::image_timeout).
    #[must_use]
    pub fn call_timeout(mut self, limit: Duration) -> Self {
        self.call_timeout = limit;
        self
    }

    /// Sets how long an image under way, to the exporter or from it, may stop moving; default: 2
    /// minutes.
    ///
    /// The time that the image's source or sink on this side takes does not count.
    #[must_use]
    pub fn stall_timeout(mut self, limit: Duration) -> Self {
        self.stall_timeout = limit;
        self
    }

    /// Sets how long an exporter may work on an image while none of it moves over the connection;
    /// default: 1 hour.
    ///
    /// This is the time until the first byte of a dump, the time from the last byte of an image
    /// until the call is answered, and the whole time of an image that the exporter itself fetches
    /// from a URL, or sends to one.
    #[must_use]
    pub fn image_timeout(mut self, limit: Duration) -> Self {
        self.image_timeout = limit;
        self
    }

    /// What calls on a connection fail with that was lost, for who knows better why it was: such as
    /// who started the exporter. `why` is waited for a moment, and its error given to every call.
    #[must_use]
    pub fn explained_by(mut self, why: impl Future<Output = Error> + Send + 'static) -> Self {
        self.explanation = Some(Explanation(why.map(Arc::new).boxed().shared()));
        self
    }

    /// Sets how long, on TCP, the other machine may acknowledge nothing before the connection
    /// counts as lost; and how long an exporter of this project may be silent before it is asked
    /// for a sign of life, and how long its answer may take. Default: 20 seconds; whole seconds.
    #[must_use]
    pub fn keepalive(mut self, interval: Duration) -> Self {
        self.keepalive = interval;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<ConnectOptions> {
        ConnectOptions::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_environment_says_how() {
        let options = read(&[
            ("JUMPSTARTER_HOST", "lab:1"),
            ("JMP_GRPC_INSECURE", "1"),
            ("JMP_GRPC_PASSPHRASE", "s3cret"),
            ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "/python"),
            ("JMP_GRPC_CA", "/ours"),
            ("JMP_GRPC_CERT", "/certificate"),
            ("JMP_GRPC_KEY", "/key"),
        ])
        .unwrap();
        assert_eq!(options.address.to_string(), "lab:1");
        assert!(options.insecure);
        assert_eq!(options.passphrase, Some("s3cret".into()));
        assert_eq!(options.ca_file, Some("/ours".into()));
        assert_eq!(options.client_certificate, Some(("/certificate".into(), "/key".into())));
        assert!(!format!("{options:?}").contains("s3cret"));

        let options =
            read(&[("JUMPSTARTER_HOST", "/s"), ("JMP_GRPC_INSECURE", "0"), ("JMP_GRPC_CA", "")])
                .unwrap();
        assert_eq!((options.insecure, options.passphrase, options.ca_file), (false, None, None));

        let insecure = |variables: &[(&str, &str)]| {
            read(&[[("JUMPSTARTER_HOST", "lab:1")].as_slice(), variables].concat())
                .unwrap()
                .insecure
        };
        assert!(insecure(&[("JUMPSTARTER_GRPC_INSECURE", "1")]));
        assert!(!insecure(&[("JUMPSTARTER_GRPC_INSECURE", "1"), ("JMP_GRPC_INSECURE", "0")]));
    }

    #[test]
    fn a_missing_or_wrong_host_is_explained() {
        let error = read(&[("JUMPSTARTER_HOST", "")]).unwrap_err();
        insta::assert_snapshot!(error.report(), @r"
        JUMPSTARTER_HOST is not set
        hint: set it to an exporter's socket or HOST:PORT, or run this inside `jmp shell`
        ");
        let error = read(&[("JUMPSTARTER_HOST", "lab")]).unwrap_err();
        insta::assert_snapshot!(error.report(), @r"
        reading JUMPSTARTER_HOST: `lab` is not the address of an exporter
        hint: as /path/of/a/socket, ./socket, localhost:8082 or [::1]:8082
        ");
    }
}
