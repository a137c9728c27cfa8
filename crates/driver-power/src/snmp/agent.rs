//! The agent of a power distribution unit, and what its answers mean.

use std::fmt;
use std::time::Duration;

use async_snmp::v3::ReportStatus;
use async_snmp::{
    Auth, Client, DesSaltState, ErrorStatus, Oid, PersistedDesSaltState, Retry, Target, UdpHandle,
    UsmConfig, Value,
};
use jumpstarter_driver_core::prelude::*;

use super::config::{SnmpPowerConfig, SnmpPrivacy, SnmpVersion};

/// How long an agent has for its answer until the request is sent again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often a request is sent again: the caller's deadline comes first.
const RETRIES: u32 = 16;

/// An agent, and the objects of one outlet.
#[derive(Debug)]
pub(super) struct Agent {
    host: String,
    port: u16,
    user: String,
    encrypts: bool,
    auth: Auth,
    pub(super) outlet: Oid,
    pub(super) state: Oid,
    pub(super) voltage: Option<Oid>,
    pub(super) current: Option<Oid>,
}

/// The object of that name in numbers, with or without a dot before them.
pub(super) fn object(oid: &str) -> Option<Oid> {
    let parsed = Oid::parse(oid.trim_start_matches('.')).ok()?;
    // One more number follows.
    (parsed.len() >= 2 && parsed.child(0).validate_all().is_ok()).then_some(parsed)
}

impl Agent {
    pub(super) fn new(config: &SnmpPowerConfig) -> Result<Self> {
        let named = |oid: &String| {
            object(oid).ok_or_else(|| Error::invalid_argument(format!("`{oid}` is no object")))
        };
        let outlet = named(&config.oid)?.child(config.plug);
        let state = config.state_oid.as_ref().map(named).transpose()?;
        Ok(Self {
            host: config.host.clone(),
            port: config.port,
            user: config.user.clone().unwrap_or_default(),
            encrypts: config.priv_protocol != SnmpPrivacy::None,
            auth: identity(config)?,
            state: state.unwrap_or_else(|| outlet.clone()),
            outlet,
            voltage: config.voltage_oid.as_ref().map(named).transpose()?,
            current: config.current_oid.as_ref().map(named).transpose()?,
        })
    }

    /// A socket for the requests of one switch. The agent's engine is discovered by the first one.
    pub(super) async fn connect(&self) -> Result<Session<'_>> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let target = Target::HostPort(host, self.port);
        let again = Retry::fixed(RETRIES, Duration::ZERO);
        let again = again.map_err(|error| Error::internal("sending again").with_source(error))?;
        // Nobody else uses the keys of this engine: a number that is drawn is not used again.
        let salts = PersistedDesSaltState::new(fastrand::u32(1..i32::MAX as u32 - 1))
            .and_then(|last| DesSaltState::restart(last, |_| Ok::<_, std::io::Error>(())))
            .map_err(|error| Error::internal("drawing salts").with_source(error))?;
        let client = Client::builder(target, self.auth.clone())
            .request_timeout(AGAIN)
            .retry(again)
            .des_salt_state(salts)
            // Reports of an unknown user or a wrong key have no digest: without them, a wrong
            // configuration would look like an agent that does not answer.
            .allow_unauthenticated_v3_time_correction(true)
            .connect();
        match client.await {
            Ok(client) => Ok(Session { agent: self, client }),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// The error of an agent that has not answered.
    pub(super) fn silent(&self, limit: Duration) -> Error {
        let hint = match self.auth {
            Auth::Community { .. } => {
                "check `host` and `port`, and `community`: an agent does not \
                                       answer where it is wrong"
            }
            Auth::Usm(_) if self.encrypts => {
                "check `host` and `port`, and `priv_key`: some agents do not answer where it is wrong"
            }
            Auth::Usm(_) => "check `host` and `port`, and that the agent speaks version 3",
        };
        Error::deadline_exceeded(format!("no answer within {limit:?}")).with_hint(hint)
    }

    fn failed(&self, error: &async_snmp::Error) -> Error {
        use async_snmp::Error as Snmp;
        let (kind, message, hint) = match error.exchange_source() {
            Snmp::Report { status, .. } => return self.refused(status),
            Snmp::Auth { .. } => (
                ErrorKind::PermissionDenied,
                "the answer has a wrong digest".to_owned(),
                "check `auth_key` and `auth_protocol`",
            ),
            Snmp::Snmp { status, .. } => return answered(status),
            Snmp::Network { source, .. } => {
                let source = std::io::Error::new(source.kind(), source.to_string());
                return Error::unavailable("the agent is not reached")
                    .with_source(source)
                    .with_hint(
                        "check `host` and `port`, and that the agent's SNMP is switched on",
                    );
            }
            Snmp::Timeout { .. } => return self.silent(AGAIN * RETRIES),
            Snmp::ConstructionTimeout { .. } => (
                ErrorKind::Unavailable,
                format!("the host `{}` is not resolved", self.host),
                "check `host`",
            ),
            other => (
                ErrorKind::Unavailable,
                format!("the agent gave no proper answer: {other}"),
                "check `version`, and the user's protocols at the agent",
            ),
        };
        Error::new(kind, message).with_hint(hint)
    }

    /// The error of a report of the agent's user model.
    fn refused(&self, status: &ReportStatus) -> Error {
        let user = &self.user;
        let (message, hint) = match status {
            ReportStatus::UnknownUserName { .. } => {
                (format!("the agent knows no user `{user}`"), "correct `user`")
            }
            ReportStatus::WrongDigest { .. } => (
                format!("the agent refuses the key of user `{user}`"),
                "check `auth_key` and `auth_protocol`",
            ),
            ReportStatus::DecryptionError { .. } => (
                "the agent cannot decrypt the request".to_owned(),
                "check `priv_key` and `priv_protocol`",
            ),
            ReportStatus::UnsupportedSecurityLevel { .. } => (
                format!("the agent does not let user `{user}` in with these protocols"),
                "check `auth_protocol` and `priv_protocol`",
            ),
            ReportStatus::NotInTimeWindow { .. } => {
                ("the agent's clock does not go on".to_owned(), "restart the agent's SNMP")
            }
            other => (format!("the agent reports: {other}"), "check `version`"),
        };
        Error::permission_denied(message).with_hint(hint)
    }
}

/// The error of an answer that has one.
fn answered(status: &ErrorStatus) -> Error {
    let message = format!("the agent answers `{status}`");
    let (kind, hint) = match status {
        ErrorStatus::NoAccess
        | ErrorStatus::AuthorizationError
        | ErrorStatus::NotWritable
        | ErrorStatus::ReadOnly => (
            ErrorKind::PermissionDenied,
            "check `oid` and `plug`, and that the user may write that object",
        ),
        ErrorStatus::NoSuchName | ErrorStatus::NoCreation | ErrorStatus::InconsistentName => {
            (ErrorKind::NotFound, "check `oid` and `plug`")
        }
        ErrorStatus::BadValue
        | ErrorStatus::WrongType
        | ErrorStatus::WrongLength
        | ErrorStatus::WrongEncoding
        | ErrorStatus::WrongValue
        | ErrorStatus::InconsistentValue => {
            (ErrorKind::InvalidArgument, "check `oid`, `on_value` and `off_value`")
        }
        _ => (ErrorKind::FailedPrecondition, "look into the log of the agent"),
    };
    Error::new(kind, message).with_hint(hint)
}

fn identity(config: &SnmpPowerConfig) -> Result<Auth> {
    let key = |key: &Option<Secret>| key.as_ref().map(|key| key.expose().to_owned());
    let missing = |field: &str| Error::invalid_argument(format!("`{field}` is missing"));
    if config.version == SnmpVersion::V2c {
        return Ok(Auth::v2c(key(&config.community).ok_or_else(|| missing("community"))?));
    }
    let user = config.user.clone().ok_or_else(|| missing("user"))?;
    let user = UsmConfig::new(user.into_bytes());
    let Some(auth) = config.auth_protocol.protocol() else { return Ok(Auth::from(user)) };
    let auth_key = key(&config.auth_key).ok_or_else(|| missing("auth_key"))?;
    let user = match config.priv_protocol.protocol() {
        None => user.auth(auth, auth_key),
        Some(privacy) => {
            let priv_key = key(&config.priv_key).ok_or_else(|| missing("priv_key"))?;
            user.auth_priv(auth, auth_key, privacy, priv_key)
        }
    };
    let wrong = |error| Error::invalid_argument("making the user's keys").with_source(error);
    Ok(Auth::from(user.map_err(wrong)?))
}

impl fmt::Display for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') && !self.host.starts_with('[') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Requests to an agent.
pub(super) struct Session<'a> {
    agent: &'a Agent,
    client: Client<UdpHandle>,
}

impl Session<'_> {
    pub(super) async fn set(&self, object: &Oid, value: i32) -> Result<()> {
        let set = self.client.set(object, Value::Integer(value)).await;
        set.map(drop)
            .map_err(|error| self.agent.failed(&error).context(format!("setting {object}")))
    }

    async fn get(&self, object: &Oid) -> Result<Value> {
        let doing = || format!("reading {object}");
        let answer = self.client.get(object).await;
        let answer = answer.map_err(|error| self.agent.failed(&error).context(doing()))?;
        match answer.single().map(|found| &found.value) {
            Some(value) if value.is_exception() => {
                let missing = Error::not_found("the agent has no such object, or hides it");
                Err(missing.context(doing()).with_hint("check `oid` and `plug`"))
            }
            Some(value) => Ok(value.clone()),
            None => Err(Error::unavailable("the answer is about another object").context(doing())),
        }
    }

    /// The value of an object that is a whole number.
    pub(super) async fn integer(&self, object: &Oid) -> Result<i64> {
        let value = self.get(object).await?;
        let unsigned = || value.as_u64().and_then(|value| i64::try_from(value).ok());
        value.as_i32().map(i64::from).or_else(unsigned).ok_or_else(|| no_number(object, &value))
    }

    /// The value of an object that is a number, or text of one.
    pub(super) async fn number(&self, object: &Oid) -> Result<f64> {
        let value = self.get(object).await?;
        let text = || value.as_str().and_then(|text| text.trim().parse().ok());
        let number = value.as_f64().or_else(text).filter(|number: &f64| number.is_finite());
        number.ok_or_else(|| no_number(object, &value))
    }
}

fn no_number(object: &Oid, value: &Value) -> Error {
    let text: String = value.to_string().chars().take(100).collect();
    Error::failed_precondition(format!("the object {object} is no number, but `{text}`"))
}
