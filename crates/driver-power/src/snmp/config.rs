//! The configuration of an outlet.

use std::time::Duration;

use async_snmp::{AuthProtocol, PrivProtocol};
use jumpstarter_driver_core::prelude::*;
use tokio::sync::Mutex;

use super::SnmpPower;
use super::agent::{Agent, object};

/// An outlet of a power distribution unit that is switched by SNMP.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnmpPowerConfig {
    /// The agent's host name or address.
    pub(super) host: String,
    /// The agent's UDP port.
    #[serde(default = "snmp_port")]
    pub(super) port: u16,
    /// The version of SNMP: `3`, or `2c`.
    #[serde(default)]
    pub(super) version: SnmpVersion,
    /// The user's name, of version 3.
    pub(super) user: Option<String>,
    /// What authenticates the messages of version 3.
    #[serde(default)]
    pub(super) auth_protocol: SnmpAuthentication,
    /// The passphrase of `auth_protocol`.
    pub(super) auth_key: Option<Secret>,
    /// What encrypts the messages of version 3; without `auth_protocol` they are not encrypted.
    #[serde(default)]
    pub(super) priv_protocol: SnmpPrivacy,
    /// The passphrase of `priv_protocol`.
    pub(super) priv_key: Option<Secret>,
    /// The community, of version 2c.
    pub(super) community: Option<Secret>,
    /// The outlet's number, which is the last part of its object.
    pub(super) plug: u32,
    /// The column of the objects that switch; the outlet's number follows it.
    #[serde(default = "raritan")]
    pub(super) oid: String,
    /// The object that has the outlet's state, in full; the one that switches where it is not
    /// given.
    pub(super) state_oid: Option<String>,
    /// What the object is set to so that the outlet is on.
    #[serde(default = "one")]
    pub(super) on_value: i32,
    /// What the object is set to so that the outlet is off.
    #[serde(default)]
    pub(super) off_value: i32,
    /// The object that has the voltage, in full.
    pub(super) voltage_oid: Option<String>,
    /// What the voltage is multiplied with to be volts.
    #[serde(default = "unscaled")]
    pub(super) voltage_scale: f64,
    /// The object that has the current, in full.
    pub(super) current_oid: Option<String>,
    /// What the current is multiplied with to be amperes.
    #[serde(default = "unscaled")]
    pub(super) current_scale: f64,
    /// How long a switch may take until it is seen to work: seconds, or a time such as 500ms.
    #[serde(default = "five_seconds")]
    #[schemars(default = "five_seconds")]
    pub(super) timeout: Span,
    /// What the end of a lease does: `keep` leaves the device as it is, `off` switches it off.
    #[serde(default)]
    pub(super) close: AtClose,
}

/// The versions of SNMP that are spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum SnmpVersion {
    /// Users with passphrases.
    #[default]
    #[serde(rename = "3")]
    V3,
    /// A community, which everybody on the way can read.
    #[serde(rename = "2c")]
    V2c,
}

/// What authenticates messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum SnmpAuthentication {
    /// Nothing.
    #[default]
    None,
    /// HMAC-MD5-96.
    Md5,
    /// HMAC-SHA-96.
    Sha,
    /// HMAC-192-SHA-256.
    Sha256,
    /// HMAC-384-SHA-512.
    Sha512,
}

/// What encrypts messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum SnmpPrivacy {
    /// Nothing.
    #[default]
    None,
    /// CBC-DES.
    Des,
    /// CFB128-AES-128.
    Aes,
}

impl SnmpAuthentication {
    pub(super) fn protocol(self) -> Option<AuthProtocol> {
        match self {
            Self::None => None,
            Self::Md5 => Some(AuthProtocol::Md5),
            Self::Sha => Some(AuthProtocol::Sha1),
            Self::Sha256 => Some(AuthProtocol::Sha256),
            Self::Sha512 => Some(AuthProtocol::Sha512),
        }
    }
}

impl SnmpPrivacy {
    pub(super) fn protocol(self) -> Option<PrivProtocol> {
        match self {
            Self::None => None,
            Self::Des => Some(PrivProtocol::Des),
            Self::Aes => Some(PrivProtocol::Aes128),
        }
    }
}

/// RFC 3414, 11.2. A secret that is elsewhere is read when the driver is opened.
fn is_short(key: &Secret) -> bool {
    !key.is_elsewhere() && key.expose().len() < 8
}

fn snmp_port() -> u16 {
    161
}

/// The column of switches of a Raritan PX2, as in Python.
fn raritan() -> String {
    "1.3.6.1.4.1.13742.6.4.1.2.1.2.1".to_owned()
}

fn one() -> i32 {
    1
}

fn unscaled() -> f64 {
    1.0
}

fn five_seconds() -> Span {
    Span::from(Duration::from_secs(5))
}

impl SnmpPowerConfig {
    fn objects(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let others = [
            ("state_oid", &self.state_oid),
            ("voltage_oid", &self.voltage_oid),
            ("current_oid", &self.current_oid),
        ];
        let others = others.into_iter().filter_map(|(name, oid)| Some((name, oid.as_ref()?)));
        std::iter::once(("oid", &self.oid)).chain(others)
    }

    /// What of the user, or of the community, is missing or wrong.
    fn check_identity(&self) -> Vec<ConfigProblem> {
        let mut found = Vec::new();
        let is_v3 = self.version == SnmpVersion::V3;
        let wanted =
            [("user", is_v3, self.user.is_none()), ("community", !is_v3, self.community.is_none())];
        for (field, is_wanted, is_missing) in wanted {
            if is_wanted && is_missing {
                found.push(ConfigProblem::new(field, "is missing"));
            }
        }
        let has_auth = is_v3 && self.auth_protocol != SnmpAuthentication::None;
        let has_privacy = has_auth && self.priv_protocol != SnmpPrivacy::None;
        for (field, is_wanted, key) in
            [("auth_key", has_auth, &self.auth_key), ("priv_key", has_privacy, &self.priv_key)]
        {
            if is_wanted && key.is_none() {
                found.push(ConfigProblem::new(field, "is missing"));
            }
            if is_wanted && key.as_ref().is_some_and(is_short) {
                let problem = ConfigProblem::new(field, "has fewer than 8 characters");
                found.push(problem.with_hint(
                    "set a longer passphrase at the agent, or write `python: true` beside `type`",
                ));
            }
        }
        found
    }
}

#[async_trait]
impl DriverConfig for SnmpPowerConfig {
    const NAME: &'static str = "snmp";
    const PYTHON_NAMES: &'static [&'static str] = &["jumpstarter_driver_snmp.driver.SNMPServer"];
    type Driver = SnmpPower;

    fn check(&self) -> Vec<ConfigProblem> {
        let mut found = self.check_identity();
        for (field, oid) in self.objects() {
            if object(oid).is_none() {
                let problem = ConfigProblem::new(field, "is no object identifier");
                found.push(problem.with_hint("write numbers with dots between: 1.3.6.1.4.1.318"));
            }
        }
        if self.host.is_empty() {
            found.push(ConfigProblem::new("host", "is empty"));
        }
        if self.on_value == self.off_value {
            found.push(ConfigProblem::new("off_value", "is the value of on, too"));
        }
        for (field, scale) in
            [("voltage_scale", self.voltage_scale), ("current_scale", self.current_scale)]
        {
            if scale <= 0.0 {
                found.push(ConfigProblem::new(field, "is not greater than 0"));
            }
        }
        if self.timeout.as_duration().is_zero() {
            found.push(ConfigProblem::new("timeout", "leaves a switch no time"));
        }
        found
    }

    fn warnings(&self) -> Vec<ConfigProblem> {
        let is_plain = self.auth_protocol == SnmpAuthentication::None;
        match is_plain && self.priv_protocol != SnmpPrivacy::None {
            true => {
                let problem = ConfigProblem::new("priv_protocol", "encrypts nothing");
                vec![problem.with_hint("set `auth_protocol` and `auth_key`, too")]
            }
            false => Vec::new(),
        }
    }

    async fn open(self, _: OpenContext) -> Result<SnmpPower> {
        Ok(SnmpPower { agent: Agent::new(&self)?, config: self, turn: Mutex::new(()) })
    }
}
register_driver!(SnmpPowerConfig);
