//! The address of an exporter, to connect to or to listen at.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use jumpstarter_driver_core::Error;

/// The address of an exporter.
///
/// Parsed and displayed in the form of `JUMPSTARTER_HOST`; [`url`](Self::url) displays it as `jmp
/// run` prints it.
///
/// ```
/// use jumpstarter_protocol::Address;
/// # fn main() -> jumpstarter_driver_core::Result<()> {
/// assert_eq!("/run/lab.sock".parse::<Address>()?, Address::Unix("/run/lab.sock".into()));
/// let local = Address::Tcp { host: "::1".to_owned(), port: 8082 };
/// assert_eq!("[::1]:8082".parse::<Address>()?, local);
/// assert_eq!(Address::to_listen_at("8082")?.url().to_string(), "tcp://0.0.0.0:8082");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp {
        /// A name or an IP address, IPv6 without brackets.
        host: String,
        /// The port. For a listener, 0 takes a free one.
        port: u16,
    },
}

impl Address {
    /// Parses `[HOST:]PORT` of a listener: without a host, every IPv4 address of this machine.
    ///
    /// # Errors
    /// `InvalidArgument` for anything else.
    pub fn to_listen_at(text: &str) -> Result<Self, Error> {
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let host = if host.is_empty() { "0.0.0.0" } else { host };
        host_without_brackets(host).zip(port.parse().ok()).map_or_else(
            || {
                Err(Error::invalid_argument(format!("`{text}` is not [HOST:]PORT"))
                    .with_hint("as 1234, localhost:1234 or [::1]:1234"))
            },
            |(host, port)| Ok(Self::Tcp { host: host.to_owned(), port }),
        )
    }

    /// Displays it with its scheme: `unix:///run/lab.sock`, `tcp://lab:8082`.
    pub fn url(&self) -> impl fmt::Display + '_ {
        fmt::from_fn(move |f| {
            let scheme = match self {
                Self::Unix(_) => "unix",
                Self::Tcp { .. } => "tcp",
            };
            write!(f, "{scheme}://{self}")
        })
    }
}

/// The host of `HOST:PORT`: an IPv6 address must be in brackets.
fn host_without_brackets(host: &str) -> Option<&str> {
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_bare = !host.is_empty() && !host.contains(':');
    bracketed.filter(|host| !host.is_empty()).or(is_bare.then_some(host))
}

impl FromStr for Address {
    type Err = Error;

    /// Parses `/path`, `./path`, `unix:path`, `host:port` or `[::1]:port`; also the output of `jmp
    /// run`, `unix:///path` and `tcp://host:port`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::invalid_argument(format!("`{text}` is not the address of an exporter"))
                .with_hint("as /path/of/a/socket, ./socket, localhost:8082 or [::1]:8082")
        };
        let authority = text.strip_prefix("tcp://").unwrap_or(text);
        let path = match text.strip_prefix("unix:") {
            Some(path) => Some(path.strip_prefix("//").unwrap_or(path)),
            None => authority.contains('/').then_some(text),
        };
        if let Some(path) = path {
            return if path.is_empty() || path.contains("://") {
                Err(wrong())
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        let (host, port) = authority.rsplit_once(':').ok_or_else(wrong)?;
        let host = host_without_brackets(host).ok_or_else(wrong)?.to_owned();
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        Ok(Self::Tcp { host, port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jumpstarter_driver_core::ErrorKind;

    #[test]
    fn what_is_read_is_shown_again() {
        for text in
            ["/run/lab.sock", "./lab.sock", "lab/sock", "lab:8082", "127.0.0.1:1", "[::1]:65535"]
        {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["unix:///run/s", "unix:/run/s"] {
            assert_eq!(text.parse::<Address>().unwrap(), Address::Unix("/run/s".into()));
        }
        let ready = "tcp://[::1]:8082".parse::<Address>().unwrap();
        assert_eq!(ready, Address::Tcp { host: "::1".to_owned(), port: 8082 });
        for wrong in [
            "tcp://lab",
            "tcp://lab:1/x",
            "",
            "lab",
            "lab:",
            ":80",
            "::1:80",
            "lab:0",
            "lab:99999",
            "unix:",
            "http://lab:80",
        ] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn where_to_listen() {
        let read = |text| Address::to_listen_at(text).map(|address| address.url().to_string());
        assert_eq!(read("1234").unwrap(), "tcp://0.0.0.0:1234");
        assert_eq!(read("[::1]:0").unwrap(), "tcp://[::1]:0");
        assert_eq!(read("lab:99").unwrap(), "tcp://lab:99");
        assert_eq!(Address::Unix("/run/s".into()).url().to_string(), "unix:///run/s");
        for wrong in ["", "lab", "lab:", "::1:80", "lab:99999"] {
            let error = read(wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{wrong}");
        }
    }
}
