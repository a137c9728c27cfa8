//! Client configuration from environment variables, as CI has it.

use std::ffi::OsString;

use jumpstarter_driver_core::{Error, Result, Secret};
use serde::de::DeserializeOwned;

use super::client::ClientConfig;

impl ClientConfig {
    /// The configuration of a client without a file, if `JMP_NAMESPACE` and `JMP_NAME` are both
    /// set.
    ///
    /// `JMP_ENDPOINT`, `JMP_TOKEN`, `JMP_REFRESH_TOKEN`, `JMP_DRIVERS_ALLOW` (joined by commas),
    /// `JMP_DRIVERS_UNSAFE`, `JMP_TLS` and `JMP_GRPCOPTIONS` (both JSON) have the other fields.
    /// `JMP_GRPC_INSECURE=1` accepts any certificate; an older name is
    /// `JUMPSTARTER_GRPC_INSECURE`. An empty variable counts as unset.
    ///
    /// # Errors
    /// `InvalidArgument` for a value that is not text, or not of its form; it names the variable,
    /// never the value.
    pub fn from_variables(variables: impl Fn(&str) -> Option<OsString>) -> Result<Option<Self>> {
        let variables = Variables(&variables);
        let (Some(namespace), Some(name)) =
            (variables.text("JMP_NAMESPACE")?, variables.text("JMP_NAME")?)
        else {
            return Ok(None);
        };
        let mut config = Self::new("default", namespace, name);
        config.refresh_token = variables.text("JMP_REFRESH_TOKEN")?.map(Secret::new);
        config.tls = variables.json("JMP_TLS")?.unwrap_or_default();
        config.grpc_options = variables.json("JMP_GRPCOPTIONS")?.unwrap_or_default();
        if let Some(allow) = variables.text("JMP_DRIVERS_ALLOW")? {
            let packages = allow.split(',').map(str::trim).filter(|package| !package.is_empty());
            config.drivers.allow = packages.map(str::to_owned).collect();
        }
        config.drivers.allow_all = variables.flag("JMP_DRIVERS_UNSAFE")?;
        config.completed_from(variables.0).map(Some)
    }

    /// Adds what the variables say and the configuration lacks.
    pub(super) fn completed_from(
        mut self,
        variables: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self> {
        let variables = Variables(variables);
        if self.endpoint.is_none() {
            self.endpoint = variables.text("JMP_ENDPOINT")?;
        }
        if self.token.is_none() {
            self.token = variables.text("JMP_TOKEN")?.map(Secret::new);
        }
        let is_set = |name| variables.0(name).is_some_and(|value| value == "1");
        if !self.tls.insecure
            && ["JMP_GRPC_INSECURE", "JUMPSTARTER_GRPC_INSECURE"].map(is_set).contains(&true)
        {
            self.tls.insecure = true;
            self.insecure_by_variable = true;
        }
        Ok(self)
    }
}

/// The variables of an environment.
struct Variables<'a>(&'a dyn Fn(&str) -> Option<OsString>);

impl Variables<'_> {
    fn text(&self, name: &str) -> Result<Option<String>> {
        let value = self.0(name).filter(|value| !value.is_empty());
        value.map(|value| value.into_string().map_err(|_| wrong(name, "not text"))).transpose()
    }

    fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let read = serde_json::from_str(&text);
        read.map(Some).map_err(|_| {
            wrong(name, "not JSON of the field's form").with_hint(
                "write it as `{\"insecure\": true}` or `{\"grpc.max_metadata_size\": 1}`",
            )
        })
    }

    fn flag(&self, name: &str) -> Result<bool> {
        let Some(text) = self.text(name)? else { return Ok(false) };
        match text.to_ascii_lowercase().as_str() {
            "1" | "true" | "t" | "yes" | "y" | "on" => Ok(true),
            "0" | "false" | "f" | "no" | "n" | "off" => Ok(false),
            _ => Err(wrong(name, "neither true nor false").with_hint("write `true` or `false`")),
        }
    }
}

fn wrong(name: &str, what: &str) -> Error {
    Error::invalid_argument(format!("the environment variable `{name}` is {what}"))
}
