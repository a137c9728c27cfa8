//! The address of a serial port: a device path, `loop://`, `socket://host:port`,
//! `rfc2217://host:port` or `unix:///path`.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::hwgrep::DevicePattern;
use jumpstarter_driver_core::{Error, HostPath, Result, suggest};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// The address of a serial port. The forms are those of pySerial's `serial_for_url`, and `unix://`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SerialAddress {
    /// A terminal device of this machine, such as `/dev/ttyUSB0` or a pseudo-terminal.
    Device(HostPath),
    /// `hwgrep://REGEX`: the first terminal device of this machine whose name, product or ids
    /// match, such as `hwgrep://0403:6001` or `hwgrep://SER=FT4X2`. Looked up at each opening.
    Grep(DevicePattern),
    /// `loop://`: every connection gets back what it writes, and nothing else.
    Loop,
    /// `socket://host:port`: raw bytes over TCP, as terminal servers and ser2net offer.
    Tcp {
        /// Name or address; an IPv6 address without its brackets.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// `rfc2217://host:port`: a port of a terminal server, with its lines and settings.
    Rfc2217 {
        /// Name or address; an IPv6 address without its brackets.
        host: String,
        /// TCP port.
        port: u16,
        /// `?ign_set_control`: the server does not answer to changes of lines and flow control.
        ignore_control: bool,
    },
    /// `unix:///path`: raw bytes over a Unix stream socket, as QEMU's character devices offer.
    Unix(PathBuf),
}

const FORMS: &str = "expected a device path such as /dev/ttyUSB0, loop://, hwgrep://regex, socket://host:port, \
     rfc2217://host:port or unix:///path";
const SCHEMES: [&str; 5] = ["loop", "hwgrep", "socket", "rfc2217", "unix"];

impl FromStr for SerialAddress {
    type Err = Error;

    /// `InvalidArgument` for text in another form; the hint lists the forms.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::invalid_argument(format!("`{text}` is not the address of a serial port: {why}"))
                .with_hint(FORMS)
        };
        if text.is_empty() || text.contains('\0') {
            return Err(wrong("it is empty or has a NUL in it"));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self::Device(text.into()));
        };
        match scheme {
            "loop" if rest.is_empty() => Ok(Self::Loop),
            "loop" => Err(wrong("loop:// takes nothing after it")),
            "hwgrep" => rest.parse().map(Self::Grep).map_err(|error: Error| wrong(&error.report())),
            "unix" if rest.starts_with('/') => Ok(Self::Unix(PathBuf::from(rest))),
            "unix" => Err(wrong("its path is not absolute")),
            "socket" => {
                let (host, port) = endpoint(rest).map_err(wrong)?;
                Ok(Self::Tcp { host, port })
            }
            "rfc2217" => {
                let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
                let (host, port) = endpoint(place).map_err(wrong)?;
                let mut ignore_control = false;
                for option in options.split('&').filter(|option| !option.is_empty()) {
                    match option.split('=').next() {
                        Some("ign_set_control") => ignore_control = true,
                        // They change nothing here.
                        Some("poll_modem" | "timeout" | "logging") => {}
                        _ => return Err(wrong(&format!("unknown option `{option}`"))),
                    }
                }
                Ok(Self::Rfc2217 { host, port, ignore_control })
            }
            other => match suggest::nearest(other, SCHEMES) {
                Some(near) => {
                    Err(wrong(&format!("unknown scheme `{other}`; did you mean `{near}`?")))
                }
                None => Err(wrong(&format!("unknown scheme `{other}`"))),
            },
        }
    }
}

/// Reads `host:port`.
fn endpoint(text: &str) -> Result<(String, u16), &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("it has no port")?;
    let port = port.parse().ok().filter(|port| *port != 0);
    let port = port.ok_or("its port is not a number from 1 to 65535")?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() || host.contains('/') {
        return Err("it has no host");
    }
    Ok((host.to_owned(), port))
}

/// Writes `host:port`.
fn write_endpoint(f: &mut fmt::Formatter<'_>, host: &str, port: u16) -> fmt::Result {
    match host.contains(':') {
        true => write!(f, "[{host}]:{port}"),
        false => write!(f, "{host}:{port}"),
    }
}

impl fmt::Display for SerialAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => path.fmt(f),
            Self::Grep(pattern) => write!(f, "hwgrep://{}", pattern.as_str()),
            Self::Loop => f.write_str("loop://"),
            Self::Tcp { host, port } => {
                f.write_str("socket://")?;
                write_endpoint(f, host, *port)
            }
            Self::Rfc2217 { host, port, ignore_control } => {
                f.write_str("rfc2217://")?;
                write_endpoint(f, host, *port)?;
                f.write_str(if *ignore_control { "?ign_set_control" } else { "" })
            }
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for SerialAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let path = HostPath::deserialize(deserializer)?;
        match path.written().parse() {
            Ok(Self::Device(_)) => Ok(Self::Device(path)),
            other => other.map_err(|error: Error| de::Error::custom(error.report())),
        }
    }
}

impl JsonSchema for SerialAddress {
    fn schema_name() -> Cow<'static, str> {
        "SerialAddress".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A device path such as /dev/ttyUSB0, loop://, socket://host:port, rfc2217://host:port or unix:///path.",
            "type": "string",
            "format": "path-or-url",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads_and_prints_the_same() {
        for text in [
            "/dev/ttyUSB0",
            "loop://",
            "socket://lab:2000",
            "socket://[::1]:7",
            "unix:///run/c.sock",
            "rfc2217://lab:2217",
            "hwgrep://0403:6001&n=2",
            "rfc2217://[::1]:2217?ign_set_control",
            "COM3",
        ] {
            assert_eq!(text.parse::<SerialAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn wrong_ones_say_why() {
        for (text, why) in [
            ("", "empty"),
            ("loop://x", "nothing after"),
            ("socket://lab", "no port"),
            ("socket://lab:70000", "1 to 65535"),
            ("socket://:1", "no host"),
            ("unix://relative", "not absolute"),
            ("rfc2217://lab", "no port"),
            ("rfc2217://lab:1?ign", "unknown option `ign`"),
            ("sockt://lab:1", "did you mean `socket`"),
            ("spy:///dev/ttyS0", "unknown scheme `spy`"),
        ] {
            let error = text.parse::<SerialAddress>().unwrap_err().report();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
