//! Registries as values, and what they report of drivers.

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{Registry, interfaces};
use serde_json::json;

/// Takes nothing.
#[derive(Deserialize, JsonSchema)]
struct LampConfig {}

struct Lamp;

impl Driver for Lamp {
    interfaces!(Power);
}

#[async_trait]
impl Power for Lamp {
    async fn on(&self) -> Result<()> {
        Ok(())
    }
    async fn off(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl DriverConfig for LampConfig {
    const NAME: &'static str = "lamp";
    type Driver = Lamp;

    async fn open(self, _: OpenContext) -> Result<Lamp> {
        Ok(Lamp)
    }
}

#[test]
fn a_registry_has_what_was_added_and_nothing_else() {
    let registry = Registry::new().with::<LampConfig>();
    let lamp = registry.find("lamp").unwrap();
    let names: Vec<&str> = (lamp.interfaces)().iter().map(|interface| interface.name).collect();
    assert_eq!(names, ["power"]);
    let unknown = registry.find("composite").unwrap_err().report();
    assert!(unknown.contains("the drivers here are `lamp`"), "{unknown}");
    // It is not registered.
    let linked = Registry::linked();
    assert!(linked.find("lamp").is_err() && linked.find("composite").is_ok());
}

/// Takes nothing.
#[derive(Deserialize, JsonSchema)]
struct HostConfig {}

#[async_trait]
impl DriverConfig for HostConfig {
    const NAME: &'static str = "host";
    const HOSTS_OTHERS: bool = true;
    type Driver = Lamp;

    async fn open(self, _: OpenContext) -> Result<Lamp> {
        Ok(Lamp)
    }
}

#[test]
fn no_file_names_what_hosts_others() {
    let registry = Registry::new().with::<HostConfig>().with::<LampConfig>();
    let error = registry.find("host").unwrap_err().report();
    assert!(error.contains("the drivers here are `lamp`"), "{error}");
    let names: Vec<&str> = registry.drivers().unwrap().iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["lamp"]);
    assert_eq!(registry.host().map(|entry| entry.name), Some("host"));
}

#[test]
fn a_name_belongs_to_one_driver() {
    let twice = Registry::new().with::<LampConfig>().with::<LampConfig>();
    let error = twice.find("lamp").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.report().contains("two drivers are named `lamp`"), "{error:?}");
}

/// Takes nothing.
#[derive(Deserialize, JsonSchema)]
struct UndeclaredConfig {}

/// Offers an interface that its type does not declare.
struct Undeclared(Lamp);

impl Driver for Undeclared {
    fn interfaces(&self) -> Interfaces<'_> {
        Interfaces::new().power(&self.0)
    }
}

#[async_trait]
impl DriverConfig for UndeclaredConfig {
    const NAME: &'static str = "undeclared";
    type Driver = Undeclared;

    async fn open(self, _: OpenContext) -> Result<Undeclared> {
        Ok(Undeclared(Lamp))
    }
}

/// Otherwise the registry would not know what the driver can do.
#[tokio::test]
async fn a_driver_offers_what_its_type_declares() {
    let registry = Registry::new().with::<UndeclaredConfig>().with::<LampConfig>();
    let open = |name: &str| {
        let entry = registry.find(name).unwrap();
        (entry.open)(json!({}), OpenContext::at(name))
    };
    assert!(open("lamp").await.is_ok());
    let error = open("undeclared").await.err().expect("nothing is declared").report();
    assert!(
        error.contains("it offers the interfaces `power` and declares none")
            && error.contains("`interfaces!(…);`"),
        "{error}"
    );
}
