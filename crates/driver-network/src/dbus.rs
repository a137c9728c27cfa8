//! `dbus`: the system's or the session's message bus of the exporter's machine.

mod address;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{ConfigProblem, blocking, deadline_after};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};

use crate::endpoint::{CONNECT_TIMEOUT, Endpoint, connect_timeout};
use crate::unix;
use address::{Transport, addresses};

/// The label that names the bus for clients.
const KIND_LABEL: &str = "jumpstarter.dev/dbusnetwork/kind";
/// The length of a nonce (D-Bus specification, nonce-secured TCP sockets).
const NONCE_BYTES: usize = 16;

/// A message bus of D-Bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DbusKind {
    /// The bus of the machine: `DBUS_SYSTEM_BUS_ADDRESS`, or else the usual socket in `/run/dbus`.
    System,
    /// The bus of the exporter's user: `DBUS_SESSION_BUS_ADDRESS`, or else `bus` in the user's
    /// runtime folder.
    Session,
}

impl DbusKind {
    fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Session => "session",
        }
    }

    fn variable(self) -> &'static str {
        match self {
            Self::System => "DBUS_SYSTEM_BUS_ADDRESS",
            Self::Session => "DBUS_SESSION_BUS_ADDRESS",
        }
    }

    /// The address of a bus without a variable.
    fn usual_address(self) -> String {
        match self {
            Self::System => "unix:path=/run/dbus/system_bus_socket;\
                             unix:path=/var/run/dbus/system_bus_socket"
                .to_owned(),
            Self::Session => {
                let user = rustix::process::getuid().as_raw();
                let usual = format!("unix:path=/run/user/{user}/bus");
                match std::env::var_os("XDG_RUNTIME_DIR") {
                    Some(_) => format!("unix:runtime=yes;{usual}"),
                    None => usual,
                }
            }
        }
    }

    /// The ways to the bus, in the order in which they are tried.
    fn transports(self) -> Result<Vec<Result<Transport>>> {
        let variable = self.variable();
        match std::env::var(variable) {
            Ok(address) if !address.is_empty() => addresses(&address).map_err(|error| {
                let hint = format!("correct `{variable}` in the exporter's environment");
                error.with_hint(hint).context(format!("reading `{variable}`"))
            }),
            Err(std::env::VarError::NotUnicode(_)) => {
                Err(Error::invalid_argument(format!("`{variable}` is not UTF-8")))
            }
            _ => addresses(&self.usual_address()),
        }
    }
}

/// The system's or the session's message bus of the exporter's machine.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DbusNetworkConfig {
    /// The bus: `system` or `session`. Its address is in the exporter's environment
    /// (`DBUS_SYSTEM_BUS_ADDRESS`, `DBUS_SESSION_BUS_ADDRESS`), or else the usual one.
    kind: DbusKind,
    /// How long connecting may take, all addresses of the bus together.
    #[serde(default = "connect_timeout")]
    connect_timeout: Span,
}

#[async_trait]
impl DriverConfig for DbusNetworkConfig {
    const NAME: &'static str = "dbus";
    const PYTHON_NAMES: &'static [&'static str] =
        &["jumpstarter_driver_network.driver.DbusNetwork"];
    type Driver = DbusNetwork;

    fn check(&self) -> Vec<ConfigProblem> {
        let problem = |error| ConfigProblem::from_error("kind", &error);
        DbusNetwork::new(self.kind).err().map(problem).into_iter().collect()
    }

    async fn open(self, _: OpenContext) -> Result<DbusNetwork> {
        let network = DbusNetwork::new(self.kind)?;
        Ok(network.connect_timeout(self.connect_timeout.as_duration()))
    }
}
register_driver!(DbusNetworkConfig);

/// A message bus: each [`connect`](Network::connect) is one connection to it, before its
/// authentication.
///
/// Pitfall: file descriptors do not pass. A client that connects by a forwarded Unix socket may
/// offer them (`NEGOTIATE_UNIX_FD`), and a method that needs one then fails.
#[derive(Clone, Debug)]
pub struct DbusNetwork {
    kind: DbusKind,
    transports: Vec<Transport>,
    /// Why the other addresses cannot be used.
    refused: Vec<String>,
    connect_timeout: Duration,
}

impl DbusNetwork {
    /// The bus of that kind, by the variables of this process. Nothing is connected yet.
    ///
    /// # Errors
    /// `InvalidArgument` for an address that is malformed, or has no supported part.
    pub fn new(kind: DbusKind) -> Result<Self> {
        Self::from_transports(kind, kind.transports()?)
    }

    /// The bus at `address`, in the form of the D-Bus specification:
    /// `unix:path=/run/bus;tcp:host=lab,port=4000`. The parts are tried in order.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn at(kind: DbusKind, address: &str) -> Result<Self> {
        Self::from_transports(kind, addresses(address)?)
    }

    fn from_transports(kind: DbusKind, found: Vec<Result<Transport>>) -> Result<Self> {
        let (mut transports, mut refused) = (Vec::new(), Vec::new());
        for transport in found {
            match transport {
                Ok(transport) => transports.push(transport),
                Err(error) => refused.push(error.to_string()),
            }
        }
        match transports.is_empty() {
            true => Err(Error::invalid_argument(refused.join("; ")).with_hint(
                "the transports `unix` (path, abstract, runtime), `tcp` and `nonce-tcp` work",
            )),
            false => Ok(Self { kind, transports, refused, connect_timeout: CONNECT_TIMEOUT }),
        }
    }

    /// How long connecting may take, all addresses together; 10 seconds unless set.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    async fn open_channel(&self) -> Result<Channel> {
        let deadline = deadline_after(self.connect_timeout);
        let mut failures = self.refused.clone();
        for transport in &self.transports {
            let connecting = connect(transport, deadline);
            match timeout_at(deadline, connecting).await {
                Ok(Ok(channel)) => return Ok(channel),
                Ok(Err(error)) => failures.push(format!("{transport}: {error:#}")),
                Err(_) => failures.push(format!("{transport}: no answer")),
            }
        }
        Err(Error::unavailable(failures.join("; ")).with_hint(format!(
            "check that the {} bus runs and that the exporter's user may use it; `{}` in the \
             exporter's environment names another address",
            self.kind.name(),
            self.kind.variable()
        )))
    }
}

async fn connect(transport: &Transport, deadline: Instant) -> Result<Channel> {
    let limit = deadline.saturating_duration_since(Instant::now());
    match transport {
        Transport::Path(path) => over_unix(unix::connect(path, deadline).await?),
        Transport::Abstract(name) => {
            over_unix(unix::connect(&abstract_path(name), deadline).await?)
        }
        Transport::Tcp { host, port, family } => {
            over_tcp(Endpoint::new(host, *port).open_tcp_of(*family, limit).await?)
        }
        Transport::NonceTcp { host, port, family, nonce_file } => {
            let nonce = nonce(nonce_file).await?;
            let mut stream = Endpoint::new(host, *port).open_tcp_of(*family, limit).await?;
            stream.write_all(&nonce).await.context("sending the nonce")?;
            over_tcp(stream)
        }
    }
}

/// tokio takes a path that begins with a null byte for a name in the abstract namespace.
fn abstract_path(name: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let path = [&[0], name].concat();
    PathBuf::from(std::ffi::OsString::from_vec(path))
}

async fn nonce(file: &Path) -> Result<Vec<u8>> {
    let file = file.to_owned();
    let (doing, reading) = (format!("reading the nonce file {}", file.display()), file);
    let nonce =
        blocking(move || Ok(std::fs::read(reading)?)).await.with_context(|| doing.clone())?;
    match nonce.len() {
        NONCE_BYTES => Ok(nonce),
        length => {
            let message = format!("it has {length} bytes, and a nonce has {NONCE_BYTES}");
            Err(Error::invalid_argument(message).context(doing))
        }
    }
}

fn over_unix(stream: UnixStream) -> Result<Channel> {
    let (reader, writer) = stream.into_split();
    Ok(Channel::from_split(reader, writer))
}

fn over_tcp(stream: TcpStream) -> Result<Channel> {
    let (reader, writer) = stream.into_split();
    Ok(Channel::from_split(reader, writer))
}

impl fmt::Display for DbusNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} bus", self.kind.name())
    }
}

impl Driver for DbusNetwork {
    interfaces!(Network);

    fn client(&self) -> Option<&str> {
        Some("jumpstarter_driver_network.client.DbusNetworkClient")
    }

    fn labels(&self) -> Vec<(String, String)> {
        vec![(KIND_LABEL.to_owned(), self.kind.name().to_owned())]
    }
}

#[async_trait]
impl Network for DbusNetwork {
    async fn connect(&self) -> Result<Channel> {
        self.open_channel().await.with_context(|| format!("connecting to {self}"))
    }
}
