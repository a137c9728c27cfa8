//! Two interfaces of one driver that have a method of the same name: the typed way reaches the one
//! that is meant, and where only the name is given, the call fails instead of choosing one.

#![expect(clippy::unwrap_used, reason = "a test driver fails its test")]

use std::sync::{Arc, Mutex};

use jumpstarter_config::ExporterConfig;
use jumpstarter_driver_core::prelude::*;

/// A meter that can be switched off.
#[interface(name = "meter", client = "acme.client.MeterClient")]
trait Meter {
    /// Stops measuring.
    async fn off(&self) -> Result<()>;
    /// Measures once.
    async fn measure(&self) -> Result<u32>;
}

#[derive(Clone, Default)]
struct Metered(Arc<Mutex<Vec<&'static str>>>);

impl Metered {
    fn note(&self, call: &'static str) -> Result<()> {
        self.0.lock().unwrap().push(call);
        Ok(())
    }
}

impl Driver for Metered {
    interfaces!(Power, Meter);
}

#[async_trait]
impl Power for Metered {
    async fn on(&self) -> Result<()> {
        self.note("Power::on")
    }
    async fn off(&self) -> Result<()> {
        self.note("Power::off")
    }
}

#[async_trait]
impl Meter for Metered {
    async fn off(&self) -> Result<()> {
        self.note("Meter::off")
    }
    async fn measure(&self) -> Result<u32> {
        Ok(7)
    }
}

/// A power supply with a meter.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MeteredConfig {}

#[async_trait]
impl DriverConfig for MeteredConfig {
    const NAME: &'static str = "test-metered";
    type Driver = Metered;
    async fn open(self, _: OpenContext) -> Result<Metered> {
        Ok(Metered::default())
    }
}
register_driver!(MeteredConfig);

#[tokio::test]
async fn a_typed_call_reaches_the_method_of_its_interface() {
    let driver = Metered::default();
    let device = Device::of_driver(driver.clone());
    device.get::<dyn Meter>("").unwrap().off().await.unwrap();
    device.get::<dyn Power>("").unwrap().off().await.unwrap();
    device.get::<dyn Power>("").unwrap().on().await.unwrap();
    assert_eq!(*driver.0.lock().unwrap(), ["Meter::off", "Power::off", "Power::on"]);
}

#[tokio::test]
async fn a_call_by_an_ambiguous_name_fails() {
    let driver = Metered::default();
    let device = Device::of_driver(driver.clone());
    let error = device.call("", "off", vec![]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unimplemented);
    assert_eq!(error.to_string(), "the interfaces `power` and `meter` both have `off`");
    assert!(driver.0.lock().unwrap().is_empty());
    assert_eq!(device.call("", "measure", vec![]).await.unwrap(), 7);
}

#[tokio::test]
async fn a_driver_with_ambiguous_methods_does_not_open() {
    let text = "\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: default, name: demo}
export:
  supply: {type: test-metered}
";
    let config = ExporterConfig::parse(text, "supply.yaml").unwrap();
    let error = config.open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let (message, hint) = (format!("{error:#}"), error.hint().unwrap_or_default());
    assert_eq!(message, "opening `supply`: the interfaces `power` and `meter` both have `off`");
    assert!(hint.contains("rename one of the two methods"), "{hint}");
}
