//! Where an exporter is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use jumpstarter_driver_core::Error;

/// The address of an exporter, as `JUMPSTARTER_HOST` holds it.
///
/// ```
/// use jumpstarter_client::Address;
/// # fn main() -> jumpstarter_driver_core::Result<()> {
/// assert_eq!("/run/lab.sock".parse::<Address>()?, Address::Unix("/run/lab.sock".into()));
/// assert_eq!("[::1]:8082".parse::<Address>()?, Address::Tcp { host: "::1".to_owned(), port: 8082 });
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
        /// The port.
        port: u16,
    },
}

impl FromStr for Address {
    type Err = Error;

    /// Reads `/path`, `./path`, `unix:path`, `host:port` or `[::1]:port`; also what `jmp run`
    /// prints when it is ready, `unix:///path` and `tcp://host:port`.
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
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bracketed.unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        match host.is_empty() || (host.contains(':') && bracketed.is_none()) {
            true => Err(wrong()),
            false => Ok(Self::Tcp { host: host.to_owned(), port }),
        }
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
}
