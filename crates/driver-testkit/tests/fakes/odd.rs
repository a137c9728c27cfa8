//! An additional interface with a handwritten adapter, so that it can be wrong.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{
    Argument, Arguments, Caller, Interface, InterfaceDescriptor, MethodDescriptor, MethodKind,
    ParameterDescriptor, ParameterKind, Reply, ValueType,
};
use serde_json::Value;

/// Which fault it has; `none` for none.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OddConfig {
    /// The fault.
    fault: String,
}

#[async_trait]
impl DriverConfig for OddConfig {
    const NAME: &'static str = "fake-odd";
    type Driver = OddFake;
    fn children(&self) -> Option<Vec<PlannedChild>> {
        let planned = || PlannedChild::new("surprise").with::<dyn Power>();
        Some((self.fault == "plans wrongly").then(planned).into_iter().collect())
    }
    async fn open(self, _: OpenContext) -> Result<OddFake> {
        Ok(OddFake(self.fault))
    }
}
register_driver!(OddConfig);

pub(crate) struct OddFake(String);

impl Driver for OddFake {
    interfaces!(Odd);
    fn children(&self) -> Vec<Child> {
        let surprise = || Child::new("surprise", Arc::new(OddFake("none".to_owned())));
        ["surprises", "plans wrongly"]
            .contains(&self.0.as_str())
            .then(surprise)
            .into_iter()
            .collect()
    }
}

/// Keeps a flag.
pub(crate) trait Odd: Send + Sync + 'static {
    /// Its fault.
    fn fault(&self) -> &str;
}

impl Odd for OddFake {
    fn fault(&self) -> &str {
        &self.0
    }
}

struct Remote;
impl Odd for Remote {
    fn fault(&self) -> &str {
        "remote"
    }
}

impl jumpstarter_driver_core::__private::Sealed for dyn Odd {}

impl Interface for dyn Odd {
    const DESCRIPTOR: &'static InterfaceDescriptor = &InterfaceDescriptor::new(
        "odd",
        "fake.client.Odd",
        "Keeps a flag.",
        &[MethodDescriptor::new(
            "keep",
            "Keeps it.",
            MethodKind::Unary,
            "()",
            &[ParameterDescriptor::new(
                "flag",
                "bool",
                ParameterKind::Value,
                false,
                Some(ValueType::of::<bool>()),
            )],
            Some(ValueType::of::<()>()),
        )],
    );

    fn call<'a>(&'a self, method: &'a str, arguments: Arguments) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(async move {
            let fault = self.fault();
            if method != "keep" {
                let error = Error::not_found(format!("there is no method `{method}`"));
                return Err(if fault == "lists nothing" {
                    error
                } else {
                    error.with_hint("there is `keep`")
                });
            }
            let arguments = arguments.into_inner();
            if arguments.len() > 1 && fault != "takes more" {
                return Err(Error::invalid_argument("one argument is enough"));
            }
            match &arguments[0] {
                Argument::Value(Value::Bool(_)) => Reply::value(()),
                _ if fault == "takes anything" => Reply::value(()),
                _ => Err(Error::invalid_argument("not a flag")),
            }
        })
    }

    fn remote(_: Arc<dyn Caller>) -> Arc<Self> {
        Arc::new(Remote)
    }
}
