//! A client file: how a user reaches a controller.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jumpstarter_driver_core::Secret;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::{Value as Json, json};

use super::document;
use super::fault::ConfigFaults;
use super::settings::{ApiVersion, GrpcOption, Metadata, Tls};

/// A client's configuration: its name, the controller, and the client's token.
///
/// The format is that of the Python client. A file with an unknown field is refused: saving it
/// again would lose the field.
///
/// ```
/// use jumpstarter_config::ClientConfig;
///
/// let text = "metadata: {namespace: lab, name: me}\nendpoint: controller.example:443\n";
/// let config = ClientConfig::parse(text, "me.yaml").unwrap();
/// assert_eq!(config.endpoint.as_deref(), Some("controller.example:443"));
///
/// let faults = ClientConfig::parse("metadata: {name: me}\nendpiont: x\n", "me.yaml").unwrap_err();
/// assert_eq!(
///     faults.to_string(),
///     "me.yaml:2:1: endpiont: unknown field; did you mean `endpoint`?"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ClientConfig {
    #[serde(default, rename = "apiVersion")]
    api_version: ApiVersion,
    #[serde(default)]
    kind: ClientKind,
    /// The short name under which a user's command line finds the file: the file's name.
    #[serde(default)]
    pub alias: String,
    /// Where the file is; `None` for a configuration without a file.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// The client's name.
    pub metadata: Metadata,
    /// The controller, as HOST:PORT.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// How the controller proves who it is.
    #[serde(default)]
    pub tls: Tls,
    /// The client's token for the controller.
    #[serde(default, deserialize_with = "secret")]
    #[schemars(schema_with = "secret_schema")]
    pub token: Option<Secret>,
    /// Gets a new token from the login service when the token expires.
    #[serde(default, deserialize_with = "secret")]
    #[schemars(schema_with = "secret_schema")]
    pub refresh_token: Option<Secret>,
    /// Channel arguments of gRPC, as the Python client takes them.
    #[serde(default, rename = "grpcOptions", deserialize_with = "options")]
    #[schemars(with = "Option<BTreeMap<String, GrpcOption>>")]
    pub grpc_options: BTreeMap<String, GrpcOption>,
    /// Which Python client classes a program may load.
    #[serde(default)]
    pub drivers: ClientDrivers,
    /// The shells of `jmp shell`.
    #[serde(default)]
    pub shell: ClientShell,
    /// The time limits of leases.
    #[serde(default)]
    pub leases: ClientLeases,
    /// Whether only a variable says to accept any certificate: then it is not saved.
    #[serde(skip)]
    pub(super) insecure_by_variable: bool,
}

/// `kind` of a client file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
enum ClientKind {
    /// A client's configuration.
    #[default]
    ClientConfig,
}

/// The Python client classes that a program may load. A client in Rust loads none, but its shells
/// pass this on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ClientDrivers {
    /// The packages that may be loaded.
    #[serde(default, deserialize_with = "words")]
    #[schemars(schema_with = "words_schema")]
    pub allow: Vec<String>,
    /// Whether all packages may be loaded.
    #[serde(default, rename = "unsafe")]
    pub allow_all: bool,
}

impl ClientDrivers {
    /// The entry of `allow` that stands for all packages.
    pub const ALL: &str = "UNSAFE";

    /// Whether all packages may be loaded.
    pub fn allows_all(&self) -> bool {
        self.allow_all || self.allow.iter().any(|package| package == Self::ALL)
    }

    /// The value of `JMP_DRIVERS_ALLOW` for a program that a shell runs: `UNSAFE`, or the packages,
    /// joined by commas.
    pub fn to_variable(&self) -> String {
        if self.allows_all() { Self::ALL.to_owned() } else { self.allow.join(",") }
    }
}

/// Settings of `jmp shell`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ClientShell {
    /// Whether a shell reads the user's start-up files.
    #[serde(default)]
    pub use_profiles: bool,
}

/// Time limits of leases. A file has numbers of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ClientLeases {
    /// How long a client waits for a device: at least 5 s, by default two hours.
    #[serde(deserialize_with = "seconds")]
    #[schemars(schema_with = "at_least_five_whole")]
    pub acquisition_timeout: Duration,
    /// How long a client tries to reach a leased exporter: at least 5 s, by default a minute.
    #[serde(deserialize_with = "seconds")]
    #[schemars(schema_with = "at_least_five")]
    pub dial_timeout: Duration,
    /// How long a client takes new leases when an exporter becomes unreachable: by default five
    /// minutes; zero for never.
    #[serde(deserialize_with = "seconds")]
    #[schemars(schema_with = "at_least_zero")]
    pub retry_timeout: Duration,
}

impl Default for ClientLeases {
    fn default() -> Self {
        Self {
            acquisition_timeout: Duration::from_secs(7200),
            dial_timeout: Duration::from_secs(60),
            retry_timeout: Duration::from_secs(300),
        }
    }
}

impl ClientLeases {
    /// The fields that differ from their defaults.
    fn to_json(self) -> Json {
        let usual = Self::default();
        let fields = [
            ("acquisition_timeout", self.acquisition_timeout, usual.acquisition_timeout),
            ("dial_timeout", self.dial_timeout, usual.dial_timeout),
            ("retry_timeout", self.retry_timeout, usual.retry_timeout),
        ];
        let differing = fields.into_iter().filter(|(_, value, usual)| value != usual);
        differing
            .map(|(name, value, _)| {
                let seconds = match value.subsec_nanos() {
                    0 => value.as_secs().into(),
                    _ => value.as_secs_f64().into(),
                };
                (name.to_owned(), seconds)
            })
            .collect::<serde_json::Map<String, Json>>()
            .into()
    }
}

impl ClientConfig {
    /// Makes a configuration without a controller, for a client of that name.
    pub fn new(
        alias: impl Into<String>,
        namespace: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        Self {
            api_version: ApiVersion::default(),
            kind: ClientKind::default(),
            alias: alias.into(),
            path: None,
            metadata: Metadata { namespace: Some(namespace.into()), name: name.into() },
            endpoint: None,
            tls: Tls::default(),
            token: None,
            refresh_token: None,
            grpc_options: BTreeMap::new(),
            drivers: ClientDrivers::default(),
            shell: ClientShell::default(),
            leases: ClientLeases::default(),
            insecure_by_variable: false,
        }
    }

    /// Reads the text of a file that messages call `origin`.
    ///
    /// # Errors
    /// All faults of the file, at once.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ConfigFaults> {
        document::checked(text, origin)
    }

    /// Reads a file. The alias is the file's name without `.yaml`.
    ///
    /// # Errors
    /// As [`ClientConfig::parse`]; a file that cannot be read is one fault without a place.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigFaults> {
        let path = path.as_ref();
        let mut config: Self = document::load(path)?;
        let alias = path.file_stem().unwrap_or_default();
        config.alias = alias.to_string_lossy().into_owned();
        config.path = Some(path.to_owned());
        Ok(config)
    }

    /// What the file has, with the tokens.
    pub(super) fn to_json(&self) -> Json {
        let expose = |secret: &Option<Secret>| secret.as_ref().map(|it| it.expose().to_owned());
        let mut fields = json!({
            "apiVersion": "jumpstarter.dev/v1alpha1",
            "kind": "ClientConfig",
            "metadata": self.metadata,
            "endpoint": self.endpoint,
            "tls": self.tls,
            "token": expose(&self.token),
            "refresh_token": expose(&self.refresh_token),
            "grpcOptions": self.grpc_options,
            "drivers": {"allow": self.drivers.allow, "unsafe": self.drivers.allow_all},
            "shell": {"use_profiles": self.shell.use_profiles},
            "leases": self.leases.to_json(),
        });
        if self.insecure_by_variable {
            fields["tls"]["insecure"] = false.into();
        }
        if let Some(fields) = fields.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
            // Clients of 0.7 refuse `leases`.
            if self.leases == ClientLeases::default() {
                fields.remove("leases");
            }
        }
        fields
    }
}

/// `Secret` itself also reads `{env: …}` and `{file: …}`, which other clients refuse.
fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Secret::new))
}

fn secret_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["string", "null"], "writeOnly": true})
}

fn options<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, GrpcOption>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A list, or text with commas. The Python client writes `['']` for an empty list.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        Text(String),
        List(Vec<String>),
    }
    let words = match Words::deserialize(deserializer)? {
        Words::Text(text) => text.split(',').map(str::to_owned).collect(),
        Words::List(words) => words,
    };
    Ok(words.iter().map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect())
}

fn words_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["array", "string"], "items": {"type": "string"}})
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn at_least_five_whole(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "minimum": 5})
}

fn at_least_five(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "number", "minimum": 5})
}

fn at_least_zero(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "number", "minimum": 0})
}
