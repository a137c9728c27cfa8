//! Plans without an exporter file: what is opened, and references that lead nowhere.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{Planned, Registry};
use serde_json::json;

fn driver(name: &str) -> Planned {
    Planned::driver(name, Registry::linked().find("composite").unwrap(), json!({}))
}

#[tokio::test]
async fn a_plan_is_opened_as_an_exporter_file_is() {
    let plan = [
        Planned::group("rack").with_child(driver("a").with_description(Some("the first".into()))),
        Planned::reference("b", "c.a"),
        Planned::reference("c", "rack"),
    ];
    let device = Device::open(&plan).await.unwrap();
    let paths: Vec<&str> = device.nodes().iter().map(|node| node.path()).collect();
    assert_eq!(paths, ["", "rack", "rack.a", "b", "c", "c.a"]);
    assert_eq!(device.node("b").unwrap().description(), Some("the first"));
    let unopened = Device::unopened(&plan).unwrap();
    assert_eq!(unopened.nodes().len(), device.nodes().len());
    device.close().await.unwrap();
}

#[track_caller]
fn check(plan: &[Planned], kind: ErrorKind, message: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = runtime.block_on(Device::open(plan)).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (kind, message), "{error:?}");
}

#[test]
fn references_lead_to_a_driver() {
    let nowhere = [driver("a"), Planned::reference("b", "a.x")];
    check(&nowhere, ErrorKind::NotFound, "the reference `b`: nothing is at `a.x`");
    let circle = [Planned::reference("a", "b"), Planned::reference("b", "a")];
    let message = "the reference `a`: references lead in a circle: `a` → `b` → `a`";
    check(&circle, ErrorKind::InvalidArgument, message);
    let into_itself = [Planned::group("g").with_child(Planned::reference("x", "g"))];
    let message = "the reference `g.x`: references lead in a circle: `g.x` → `g`";
    check(&into_itself, ErrorKind::InvalidArgument, message);
}
