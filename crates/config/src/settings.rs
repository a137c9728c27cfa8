//! The parts of an exporter file beside its drivers: name, controller, hooks.

use std::collections::BTreeMap;

use jumpstarter_driver_core::{Secret, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Everything in an exporter file except `export`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Settings {
    /// The version of the format.
    pub api_version: ApiVersion,
    /// The kind of file.
    pub kind: Kind,
    /// The exporter's name.
    pub metadata: Metadata,
    /// The controller to join, as HOST:PORT; without it the exporter serves alone.
    pub endpoint: Option<String>,
    /// How the controller proves who it is.
    pub tls: Tls,
    /// The exporter's token for the controller: [`Secret::resolve`] reads it where it is elsewhere.
    pub token: Option<Secret>,
    /// Channel arguments of gRPC, as the Python exporter takes them.
    pub grpc_options: Option<BTreeMap<String, GrpcOption>>,
    /// Text shown on entering a shell.
    pub motd: Option<String>,
    /// What the device is, for people.
    pub description: Option<String>,
    /// Scripts around a lease.
    pub hooks: Hooks,
    /// When an exporter that keeps failing gives up.
    pub failure_detection: FailureDetection,
    /// Whether the exporter ends after the first lease that its controller gives out. An exporter
    /// that serves alone has no such leases.
    pub exit_on_lease_end: bool,
    /// The interpreter that hosts drivers in Python: a path, or a name that is looked up in PATH.
    /// By default that of `JMP_PYTHON`, of the active virtual environment, or `python3`.
    pub python: Option<String>,
    /// The short name under which a user's command line finds the file.
    pub alias: Option<String>,
    /// Where the file is; written by the Python tools, not read.
    pub path: Option<String>,
}

/// `apiVersion`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[non_exhaustive]
pub enum ApiVersion {
    /// The only one so far.
    #[default]
    #[serde(rename = "jumpstarter.dev/v1alpha1")]
    V1Alpha1,
}

/// `kind`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[non_exhaustive]
pub enum Kind {
    /// An exporter's configuration.
    #[default]
    ExporterConfig,
}

/// Who the exporter is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Metadata {
    /// The namespace on the controller.
    pub namespace: Option<String>,
    /// The name in that namespace.
    pub name: String,
}

/// How the controller proves who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Tls {
    /// A certificate authority in PEM, base64; empty for those of the system.
    pub ca: String,
    /// Whether to believe any certificate.
    pub insecure: bool,
}

/// A channel argument of gRPC.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum GrpcOption {
    /// A whole number, such as a limit in bytes.
    Number(i64),
    /// Any text, such as a user agent.
    Text(String),
}

/// Scripts around a lease.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Hooks {
    /// Runs before the device is leased.
    pub before_lease: Option<Hook>,
    /// Runs after the device is returned.
    pub after_lease: Option<Hook>,
}

/// One script.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Hook {
    /// What to run: the script's text, or the path of a file.
    pub script: String,
    /// How long it may take: a number of seconds, or text such as 2min.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// What a failing script means.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// The interpreter, such as /bin/bash; by default found from the script's file name, else
    /// /bin/sh.
    pub exec: Option<String>,
}

fn default_timeout() -> Span {
    Span::seconds(120)
}

/// What a failing hook means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnFailure {
    /// Continue, with a warning.
    #[default]
    Warn,
    /// End the lease; the exporter stays online.
    EndLease,
    /// End the lease and take the exporter offline.
    Exit,
}

/// When an exporter that keeps failing gives up, so that what watches over it starts it anew.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct FailureDetection {
    /// How many rapid failures in a row are too many.
    pub max_rapid_failures: u32,
    /// A failure within this many seconds after the start is a rapid one.
    pub rapid_failure_window: u32,
}

impl Default for FailureDetection {
    fn default() -> Self {
        Self { max_rapid_failures: 5, rapid_failure_window: 60 }
    }
}
