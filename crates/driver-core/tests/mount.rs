//! Mounts: a branch of another device in a driver's place.
#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{Mount, Planned, Registry};
use serde_json::json;

/// Counts how often it was switched on, over all of them.
static SWITCHED: AtomicUsize = AtomicUsize::new(0);

/// A switch that remembers nothing.
#[config]
struct SwitchConfig {}

struct Switch;

impl Driver for Switch {
    interfaces!(Power);
}

#[async_trait]
impl Power for Switch {
    async fn on(&self) -> Result<()> {
        SWITCHED.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
    async fn off(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl DriverConfig for SwitchConfig {
    const NAME: &'static str = "switch";
    type Driver = Switch;
    async fn open(self, _: OpenContext) -> Result<Switch> {
        Ok(Switch)
    }
}

/// A rack with a switch, and another name for that.
async fn elsewhere() -> Device {
    let registry = Registry::new().with::<SwitchConfig>();
    let switch = registry.find("switch").unwrap();
    let rack = Planned::group("rack")
        .with_child(Planned::driver("mains", switch, json!({})))
        .with_child(Planned::reference("alias", "rack.mains"));
    Device::open(&[rack]).await.unwrap()
}

/// Stands for a branch of a device.
struct Branch(Mount);

impl Driver for Branch {
    fn mount(&self) -> Option<Mount> {
        Some(self.0.clone())
    }
}

fn paths(device: &Device) -> Vec<&str> {
    device.nodes().iter().map(|node| node.path()).collect()
}

#[tokio::test]
async fn a_branch_is_shown_in_the_drivers_place_and_called_there() {
    let mount = elsewhere().await.mount("").unwrap();
    let device = Device::of_driver(Branch(mount.branch("rack").unwrap()));
    assert_eq!(paths(&device), ["", "mains", "alias"]);
    let id = |path: &str| device.node(path).unwrap().id();
    assert_eq!(id("mains"), id("alias"), "two names of one driver");
    let before = SWITCHED.load(Ordering::SeqCst);
    device.get::<dyn Power>("mains").unwrap().on().await.unwrap();
    device.call("alias", "on", vec![]).await.unwrap();
    assert_eq!(SWITCHED.load(Ordering::SeqCst), before + 2);
    let error = mount.branch("rack.main").unwrap_err();
    assert!(error.report().contains("did you mean `rack.mains`?"), "{}", error.report());
}

/// Shows two branches of one device.
struct Twice(Mount);

impl Driver for Twice {
    fn children(&self) -> Vec<Child> {
        let branch = |name: &str, path: &str| {
            let branch = self.0.branch(path).unwrap();
            Child::new(name, Arc::new(Branch(branch)))
        };
        vec![branch("rack", "rack"), branch("power", "rack.alias")]
    }
}

#[tokio::test]
async fn a_driver_that_two_branches_show_is_one() {
    let device = Device::of_driver(Twice(elsewhere().await.mount("").unwrap()));
    assert_eq!(paths(&device), ["", "rack", "rack.mains", "rack.alias", "power"]);
    let id = |path: &str| device.node(path).unwrap().id();
    assert_eq!(id("power"), id("rack.mains"));
}

#[tokio::test]
async fn a_driver_uses_a_child_that_is_elsewhere() {
    let mount = elsewhere().await.mount("rack").unwrap();
    let child = Child::new("rack", Arc::new(Branch(mount)));
    let mains = child.child("mains").unwrap();
    mains.get::<dyn Power>().unwrap().on().await.unwrap();
    let error = mains.get::<dyn Network>().map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unimplemented);
    assert!(error.report().ends_with("its interfaces: `power`"), "{}", error.report());
    assert_eq!(child.child("none").map(drop).unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_device_that_is_gone_is_replaced_by_one_of_the_same_tree() {
    let first = elsewhere().await;
    let mount = first.mount("").unwrap();
    let device = Device::of_driver(Branch(mount.clone()));
    first.close().await.unwrap();
    elsewhere().await.remount(&mount).unwrap();
    device.call("rack.mains", "on", vec![]).await.unwrap();
    let error = Device::of_driver(Switch).remount(&mount).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.report().contains("`rack` is not there any more"), "{}", error.report());
}
