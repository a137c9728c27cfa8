//! The ports of the guest that the host can reach, in the order of the configuration.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use jumpstarter_driver_core::ConfigProblem;
use jumpstarter_driver_core::prelude::*;
use schemars::{Schema, SchemaGenerator};
use serde::Deserializer;
use serde::de::{self, MapAccess, Visitor};

use super::QemuConfig;

/// One port of the guest that the host can reach.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HostForward {
    /// The transport protocol of the port.
    #[serde(default)]
    pub protocol: Protocol,
    /// Address of the host to listen at: IPv4, or `localhost` for 127.0.0.1.
    #[serde(default = "loopback", deserialize_with = "host_address")]
    #[schemars(with = "String")]
    pub hostaddr: Ipv4Addr,
    /// Port of the host; 0 (the default) takes a free one.
    #[serde(default)]
    pub hostport: u16,
    /// Port of the guest.
    pub guestport: u16,
}

/// The transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Protocol {
    /// TCP connections.
    #[default]
    Tcp,
    /// UDP datagrams.
    Udp,
}

impl Protocol {
    /// The name that QEMU uses.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

fn loopback() -> Ipv4Addr {
    Ipv4Addr::LOCALHOST
}

/// QEMU's own network listens on IPv4 addresses alone.
fn host_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Ipv4Addr, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bare = text.trim().trim_start_matches('[').trim_end_matches(']');
    if bare.eq_ignore_ascii_case("localhost") {
        return Ok(Ipv4Addr::LOCALHOST);
    }
    bare.parse().map_err(|_| {
        let advice = match bare.parse::<Ipv6Addr>() {
            Ok(Ipv6Addr::LOCALHOST) => "QEMU forwards from IPv4 addresses alone: write 127.0.0.1",
            Ok(Ipv6Addr::UNSPECIFIED) => "QEMU forwards from IPv4 addresses alone: write 0.0.0.0",
            Ok(_) => "QEMU forwards from IPv4 addresses alone: write one of this host's, or 0.0.0.0 for all",
            Err(_) if bare.is_empty() => {
                "an empty address: leave it out for 127.0.0.1, or write 0.0.0.0 for all"
            }
            Err(_) => "no IPv4 address: write one of this host's, or 0.0.0.0 for all",
        };
        de::Error::custom(format!("found {text:?}, {advice}"))
    })
}

/// The forwards by name, in the order of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostForwards(Vec<(String, HostForward)>);

impl HostForwards {
    /// Name and forward, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &HostForward)> {
        self.0.iter().map(|(name, forward)| (name.as_str(), forward))
    }

    /// Adds a forward at the end.
    pub fn push(&mut self, name: impl Into<String>, forward: HostForward) {
        self.0.push((name.into(), forward));
    }

    pub(super) fn problems(&self) -> Vec<ConfigProblem> {
        let mut found = Vec::new();
        for (index, (name, forward)) in self.0.iter().enumerate() {
            let mut problem = |field: &str, message: String| {
                found.push(ConfigProblem::new(format!("hostfwd.{name}{field}"), message));
            };
            if QemuConfig::OWN_CHILDREN.contains(&name.as_str()) {
                problem(
                    "",
                    format!("the machine's own child is called `{name}`: choose another name"),
                );
            }
            if name.is_empty()
                || name.contains(|c: char| c == '.' || c.is_whitespace() || c.is_control())
            {
                problem(
                    "",
                    "a child's name is not empty, and has neither dots nor spaces".to_owned(),
                );
            }
            if forward.guestport == 0 {
                problem(".guestport", "0 is no port".to_owned());
            }
            let earlier = self.0[..index].iter().find(|(_, other)| other.collides(forward));
            if let Some((other, _)) = earlier {
                problem(".hostport", format!("{} is that of `{other}` already", forward.hostport));
            }
        }
        found
    }
}

impl HostForward {
    /// A TCP port of the guest, at a free port of this host's loopback.
    pub fn tcp(guestport: u16) -> Self {
        Self { protocol: Protocol::Tcp, hostaddr: loopback(), hostport: 0, guestport }
    }

    /// A UDP port of the guest, at a free port of this host's loopback.
    pub fn udp(guestport: u16) -> Self {
        Self { protocol: Protocol::Udp, ..Self::tcp(guestport) }
    }

    /// The same at this address of the host; port 0 takes a free one.
    #[must_use]
    pub fn at(mut self, address: SocketAddrV4) -> Self {
        (self.hostaddr, self.hostport) = (*address.ip(), address.port());
        self
    }

    /// Whether both need the same port.
    fn collides(&self, other: &Self) -> bool {
        let address = self.hostaddr == other.hostaddr
            || self.hostaddr.is_unspecified()
            || other.hostaddr.is_unspecified();
        self.hostport != 0
            && self.hostport == other.hostport
            && self.protocol == other.protocol
            && address
    }
}

impl<'de> Deserialize<'de> for HostForwards {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = HostForwards;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("forwards by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HostForwards, A::Error> {
                let mut forwards = HostForwards::default();
                while let Some((name, forward)) = map.next_entry::<String, HostForward>()? {
                    if forwards.iter().any(|(other, _)| other == name) {
                        return Err(de::Error::custom(format!("`{name}` is there twice")));
                    }
                    forwards.push(name, forward);
                }
                Ok(forwards)
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl JsonSchema for HostForwards {
    fn schema_name() -> Cow<'static, str> {
        "HostForwards".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<BTreeMap<String, HostForward>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let forwards: HostForwards = serde_json::from_str(text).unwrap();
        let fields: Vec<String> =
            forwards.problems().into_iter().map(|problem| problem.field).collect();
        assert_eq!(fields, expected, "{text}");
    }

    #[test]
    fn order_and_defaults() {
        let text = r#"{"z": {"guestport": 1}, "a": {"guestport": 2, "hostport": 3}}"#;
        let forwards: HostForwards = serde_json::from_str(text).unwrap();
        assert_eq!(forwards.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["z", "a"]);
        let (_, first) = forwards.iter().next().unwrap();
        assert_eq!(
            (first.protocol, first.hostaddr, first.hostport),
            (Protocol::Tcp, Ipv4Addr::LOCALHOST, 0)
        );
    }

    #[track_caller]
    fn check_address(written: &str, expected: Result<Ipv4Addr, &str>) {
        let forward = serde_json::json!({"guestport": 22, "hostaddr": written});
        match (serde_json::from_value::<HostForward>(forward), expected) {
            (Ok(forward), Ok(address)) => assert_eq!(forward.hostaddr, address, "{written}"),
            (Err(error), Err(advice)) => {
                assert!(error.to_string().contains(advice), "{written}: {error}")
            }
            (found, expected) => panic!("{written}: {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn addresses_are_ipv4_or_localhost() {
        check_address("localhost", Ok(Ipv4Addr::LOCALHOST));
        check_address("127.0.0.2", Ok(Ipv4Addr::new(127, 0, 0, 2)));
        check_address("::1", Err("write 127.0.0.1"));
        check_address("[::1]", Err("write 127.0.0.1"));
        check_address("::", Err("write 0.0.0.0"));
        check_address("fe80::1", Err("IPv4 addresses alone"));
        check_address("lab-7", Err("no IPv4 address"));
        check_address("", Err("leave it out"));
    }

    #[test]
    fn what_is_wrong() {
        check(r#"{"power": {"guestport": 1}}"#, &["hostfwd.power"]);
        check(r#"{"a.b": {"guestport": 0}}"#, &["hostfwd.a.b", "hostfwd.a.b.guestport"]);
        check(
            r#"{"a": {"guestport": 1, "hostport": 9}, "b": {"guestport": 1, "hostport": 9}}"#,
            &["hostfwd.b.hostport"],
        );
        check(
            r#"{"a": {"guestport": 1, "hostport": 9}, "b": {"guestport": 1, "hostport": 9, "hostaddr": "127.0.0.2"}}"#,
            &[],
        );
        check(r#"{"a": {"guestport": 1}, "b": {"guestport": 1}}"#, &[]);
        check(
            r#"{"a": {"guestport": 1, "hostport": 9}, "b": {"guestport": 1, "hostport": 9, "protocol": "udp"}}"#,
            &[],
        );
        check(r#"{"ssh": {"guestport": 22, "hostaddr": "localhost"}}"#, &[]);
        for wrong in [
            r#"{"a": {"guestport": 1}, "a": {"guestport": 2}}"#,
            r#"{"a": {}}"#,
            r#"{"a": {"guestport": 70000}}"#,
            r#"{"a": {"guestport": 1, "protocol": "sctp"}}"#,
        ] {
            assert!(serde_json::from_str::<HostForwards>(wrong).is_err(), "{wrong}");
        }
    }
}
