//! The configuration of a `shell`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use crate::driver::ShellDriver;

/// The default script of a method, as in Python.
const DEFAULT_COMMAND: &str = "echo Hello";

/// Scripts of the exporter's host as methods of a device.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShellConfig {
    /// The methods by name: each is a script, or a mapping of `command`, `description` and
    /// `timeout`. The script gets the arguments of a call as `$1`, `$2`, ….
    pub(crate) methods: BTreeMap<String, Method>,
    /// The program that runs a script, with its arguments. The script, the method's name and the
    /// arguments of the call follow them.
    #[serde(default = "bash")]
    pub(crate) shell: Program,
    /// Timeout of a method without its own: seconds, or a time such as 10min.
    #[serde(default = "five_minutes")]
    #[schemars(default = "five_minutes")]
    pub(crate) timeout: Span,
    /// The folder that scripts run in; by default the exporter's.
    #[serde(default)]
    pub(crate) cwd: Option<HostPath>,
}

fn bash() -> Program {
    Program::new(["bash", "-c"]).expect("it has a name")
}

fn five_minutes() -> Span {
    Span::from(Duration::from_secs(300))
}

/// A method of a `shell`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Method {
    /// Its script.
    pub command: String,
    /// What the method does, for people.
    pub description: Option<String>,
    /// Timeout of the method; by default that of the driver.
    pub timeout: Option<Span>,
}

/// A method as a mapping.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Fields {
    /// The script.
    #[serde(default = "default_command")]
    command: String,
    /// What the method does, for people.
    description: Option<String>,
    /// How long the method may take.
    timeout: Option<Span>,
}

fn default_command() -> String {
    DEFAULT_COMMAND.to_owned()
}

impl From<Fields> for Method {
    fn from(fields: Fields) -> Self {
        let Fields { command, description, timeout } = fields;
        Self { command, description, timeout }
    }
}

impl<'de> Deserialize<'de> for Method {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Script;
        impl<'de> Visitor<'de> for Script {
            type Value = Method;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a script, or a mapping of `command`, `description` and `timeout`")
            }

            fn visit_str<E: de::Error>(self, command: &str) -> std::result::Result<Method, E> {
                Ok(Method { command: command.to_owned(), description: None, timeout: None })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<Method, A::Error> {
                Fields::deserialize(MapAccessDeserializer::new(map)).map(Method::from)
            }
        }
        deserializer.deserialize_any(Script)
    }
}

impl JsonSchema for Method {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ShellMethod".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let fields = generator.subschema_for::<Fields>();
        json_schema!({ "anyOf": [{ "type": "string" }, fields] })
    }
}

#[async_trait]
impl DriverConfig for ShellConfig {
    const NAME: &'static str = "shell";
    const PYTHON_NAMES: &'static [&'static str] = &["jumpstarter_driver_shell.driver.Shell"];
    const SYNONYMS: &'static [(&'static str, &'static str)] =
        &[("commands", "methods"), ("scripts", "methods"), ("dir", "cwd")];
    type Driver = ShellDriver;

    fn check(&self) -> Vec<ConfigProblem> {
        let mut found = Vec::new();
        if self.timeout.as_duration().is_zero() {
            found.push(no_time("timeout"));
        }
        for (name, method) in &self.methods {
            if name.is_empty() {
                found.push(ConfigProblem::new("methods", "a method has no name"));
            }
            if method.command.trim().is_empty() {
                let field = format!("methods.{name}");
                found.push(ConfigProblem::new(field, "the script is empty"));
            }
            if method.timeout.is_some_and(|timeout| timeout.as_duration().is_zero()) {
                found.push(no_time(&format!("methods.{name}.timeout")));
            }
        }
        found
    }

    fn warnings(&self) -> Vec<ConfigProblem> {
        match self.cwd.as_ref().map(HostPath::find) {
            Some(Err(error)) => vec![ConfigProblem::from_error("cwd", &error)],
            _ => Vec::new(),
        }
    }

    async fn open(self, _: OpenContext) -> Result<ShellDriver> {
        Ok(ShellDriver::new(self))
    }
}
register_driver!(ShellConfig);

fn no_time(field: &str) -> ConfigProblem {
    ConfigProblem::new(field, "leaves a method no time to run")
}
