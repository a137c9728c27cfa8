//! The address of a controller or a router.

use std::fmt;
use std::str::FromStr;

use jumpstarter_driver_core::{Error, Result};

/// The port where none is given: that of TLS.
const DEFAULT_PORT: u16 = 443;

/// A host and a port: `controller.example:8082`, `[::1]:8082`. Without a port it is 443.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    /// A name or an address; an IPv6 address has no brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port, never 0.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::invalid_argument(format!("`{text}` is not the endpoint of a controller"))
                .with_hint("write HOST:PORT, without a scheme, such as controller.example:8082")
        };
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
                let port = match rest {
                    "" => None,
                    rest => Some(rest.strip_prefix(':').ok_or_else(wrong)?),
                };
                (host, port)
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let is_host = |c: char| c.is_alphanumeric() || "-._:".contains(c);
        if host.is_empty() || !host.chars().all(is_host) {
            return Err(wrong());
        }
        let port = port.map_or(Ok(DEFAULT_PORT), str::parse).map_err(|_| wrong())?;
        if port == 0 {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_hosts_and_ports() {
        for (text, shown) in [
            ("a:1", "a:1"),
            ("controller.example", "controller.example:443"),
            ("[::1]:8082", "[::1]:8082"),
            ("[::1]", "[::1]:443"),
            ("127.0.0.1:8082", "127.0.0.1:8082"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), shown, "{text}");
        }
        for wrong in [
            "",
            ":1",
            "a:",
            "a:0",
            "a:65536",
            "https://a:1",
            "a/b:1",
            "::1",
            "[a]:1",
            "[::1]1",
            "a b",
        ] {
            let error = wrong.parse::<Endpoint>().unwrap_err();
            assert!(error.hint().is_some_and(|hint| hint.contains("HOST:PORT")), "{wrong}");
        }
    }
}
