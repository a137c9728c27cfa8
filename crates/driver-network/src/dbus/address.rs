//! Addresses of message buses, as the D-Bus specification writes them.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use jumpstarter_driver_core::{Error, Result};

use crate::endpoint::Family;

/// One way to a bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// A Unix socket.
    Path(PathBuf),
    /// A name in Linux's abstract namespace of sockets.
    Abstract(Vec<u8>),
    /// A TCP port.
    Tcp { host: String, port: u16, family: Option<Family> },
    /// A TCP port whose clients first send what is in a file.
    NonceTcp { host: String, port: u16, family: Option<Family>, nonce_file: PathBuf },
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "unix:path={}", path.display()),
            Self::Abstract(name) => write!(f, "unix:abstract={}", name.escape_ascii()),
            Self::Tcp { host, port, .. } => write!(f, "tcp:host={host},port={port}"),
            Self::NonceTcp { host, port, .. } => write!(f, "nonce-tcp:host={host},port={port}"),
        }
    }
}

/// The parts of an address, in order. A part with an unsupported transport is an error apart: the
/// others may work.
///
/// # Errors
/// `InvalidArgument` for what is no address.
pub(super) fn addresses(address: &str) -> Result<Vec<Result<Transport>>> {
    let parts = address.split(';').filter(|part| !part.is_empty());
    let read = |part: &str| {
        let wrong = |message: String| Error::invalid_argument(format!("`{part}`: {message}"));
        let (transport, rest) = part.split_once(':').ok_or_else(|| {
            wrong("a transport and a colon are missing, as in `unix:path=/run/bus`".to_owned())
        })?;
        let pairs = rest.split(',').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| wrong(format!("`{pair}` is no key with a value")))?;
            Ok((key, unescaped(value).map_err(&wrong)?))
        });
        let keys = Keys { pairs: pairs.collect::<Result<_>>()? };
        Ok(keys.transport(transport).map_err(wrong))
    };
    let parts: Vec<_> = parts.map(read).collect::<Result<_>>()?;
    match parts.is_empty() {
        true => Err(Error::invalid_argument("the address is empty")),
        false => Ok(parts),
    }
}

/// The bytes of a value: letters, digits and `-_/.\*` stand for themselves, `%2c` for a comma.
fn unescaped(value: &str) -> std::result::Result<Vec<u8>, String> {
    let mut bytes = value.bytes();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => {
                let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
                match (digit(), digit()) {
                    (Some(high), Some(low)) => (high * 16 + low) as u8,
                    _ => return Err(format!("`{value}` has a `%` without two hex digits")),
                }
            }
            byte => byte,
        });
    }
    Ok(plain)
}

struct Keys<'a> {
    pairs: Vec<(&'a str, Vec<u8>)>,
}

impl Keys<'_> {
    fn transport(&self, transport: &str) -> std::result::Result<Transport, String> {
        match transport {
            "unix" => self.unix(),
            "tcp" => {
                let (host, port, family) = self.host_and_port()?;
                Ok(Transport::Tcp { host, port, family })
            }
            "nonce-tcp" => {
                let (host, port, family) = self.host_and_port()?;
                let nonce_file = self.path("noncefile")?.ok_or("the key `noncefile` is missing")?;
                Ok(Transport::NonceTcp { host, port, family, nonce_file })
            }
            other => Err(format!("the transport `{other}` is not supported")),
        }
    }

    fn unix(&self) -> std::result::Result<Transport, String> {
        const PLACES: [&str; 5] = ["path", "abstract", "runtime", "dir", "tmpdir"];
        let given: Vec<&str> =
            PLACES.into_iter().filter(|place| self.value(place).is_some()).collect();
        match given[..] {
            ["path"] => Ok(Transport::Path(self.path("path")?.unwrap_or_default())),
            ["abstract"] => {
                Ok(Transport::Abstract(self.value("abstract").unwrap_or_default().to_vec()))
            }
            ["runtime"] if self.value("runtime") == Some(b"yes") => {
                match std::env::var_os("XDG_RUNTIME_DIR") {
                    Some(folder) => Ok(Transport::Path(PathBuf::from(folder).join("bus"))),
                    None => Err("`runtime=yes` needs the variable `XDG_RUNTIME_DIR`".to_owned()),
                }
            }
            ["runtime"] => Err("the only value of `runtime` is `yes`".to_owned()),
            ["dir" | "tmpdir"] => {
                Err(format!("`{}` is for the bus itself, not for its clients", given[0]))
            }
            [] => Err("one of the keys `path`, `abstract` and `runtime` is missing".to_owned()),
            _ => Err(format!("the keys `{}` exclude each other", given.join("` and `"))),
        }
    }

    fn host_and_port(&self) -> std::result::Result<(String, u16, Option<Family>), String> {
        let host = self.text("host")?.ok_or("the key `host` is missing")?;
        let port = self.text("port")?.ok_or("the key `port` is missing")?;
        let number = port.parse().ok().filter(|port| *port > 0);
        let number = number.ok_or_else(|| format!("the port `{port}` is not from 1 to 65535"))?;
        let family = match self.text("family")?.as_deref() {
            None => None,
            Some("ipv4") => Some(Family::V4),
            Some("ipv6") => Some(Family::V6),
            Some(other) => return Err(format!("the family `{other}` is not `ipv4` or `ipv6`")),
        };
        Ok((host, number, family))
    }

    fn value(&self, key: &str) -> Option<&[u8]> {
        self.pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_slice())
    }

    fn text(&self, key: &str) -> std::result::Result<Option<String>, String> {
        let text = self.value(key).map(|value| String::from_utf8(value.to_vec())).transpose();
        text.map_err(|_| format!("the value of `{key}` is not UTF-8"))
    }

    fn path(&self, key: &str) -> std::result::Result<Option<PathBuf>, String> {
        match self.value(key) {
            Some([]) => Err(format!("the value of `{key}` is empty")),
            value => Ok(value.map(|value| PathBuf::from(OsString::from_vec(value.to_vec())))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each part as it is shown, or why it cannot be used; or why all of it is no address.
    fn read(address: &str) -> Vec<String> {
        match addresses(address) {
            Ok(parts) => parts
                .into_iter()
                .map(|part| part.map_or_else(|error| error.to_string(), |part| part.to_string()))
                .collect(),
            Err(error) => vec![format!("refused: {error}")],
        }
    }

    #[test]
    fn addresses_are_read_as_the_specification_writes_them() {
        for (address, expected) in [
            ("unix:path=/run/bus", "unix:path=/run/bus"),
            ("unix:path=/tmp/a%2cb%3B%20c,guid=00ff", "unix:path=/tmp/a,b; c"),
            ("unix:abstract=/tmp/dbus-x", "unix:abstract=/tmp/dbus-x"),
            ("unix:abstract=%00%ff", r"unix:abstract=\x00\xff"),
            ("tcp:host=127.0.0.1,port=4000,family=ipv4", "tcp:host=127.0.0.1,port=4000"),
            ("tcp:host=%3A%3A1,port=1", "tcp:host=::1,port=1"),
            ("nonce-tcp:host=h,port=1,noncefile=/n", "nonce-tcp:host=h,port=1"),
            ("unix:path=/a;", "unix:path=/a"),
        ] {
            assert_eq!(read(address), [expected], "{address}");
        }
        assert_eq!(
            read("launchd:env=X;unix:path=/a;tcp:host=h,port=1"),
            [
                "`launchd:env=X`: the transport `launchd` is not supported",
                "unix:path=/a",
                "tcp:host=h,port=1"
            ]
        );
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (address, expected) in [
            ("", "refused: the address is empty"),
            ("/run/bus", "refused: `/run/bus`: a transport and a colon are missing"),
            ("unix:path", "refused: `unix:path`: `path` is no key with a value"),
            ("unix:path=%2", "refused: `unix:path=%2`: `%2` has a `%` without two hex digits"),
            ("unix:", "one of the keys `path`, `abstract` and `runtime` is missing"),
            ("unix:path=", "the value of `path` is empty"),
            ("unix:path=/a,abstract=b", "the keys `path` and `abstract` exclude each other"),
            ("unix:runtime=no", "the only value of `runtime` is `yes`"),
            ("unix:tmpdir=/tmp", "`tmpdir` is for the bus itself"),
            ("tcp:port=1", "the key `host` is missing"),
            ("tcp:host=h", "the key `port` is missing"),
            ("tcp:host=h,port=0", "the port `0` is not from 1 to 65535"),
            ("tcp:host=h,port=1,family=ipx", "the family `ipx`"),
            ("nonce-tcp:host=h,port=1", "the key `noncefile` is missing"),
            ("autolaunch:", "the transport `autolaunch` is not supported"),
            ("unixexec:path=/bin/sh", "the transport `unixexec` is not supported"),
        ] {
            let found = read(address);
            assert!(found.len() == 1 && found[0].contains(expected), "{address}: {found:?}");
        }
    }
}
