//! The bounds of a device that an exporter reports.

use std::sync::{Arc, Mutex};

use jumpstarter_driver_core::prelude::*;

use super::Switch;

/// The nodes of a device elsewhere.
fn remote(
    count: usize,
    parent: impl Fn(usize) -> Option<usize>,
    name: impl Fn(usize) -> String,
) -> Result<Device> {
    let node = |id| jumpstarter_driver_core::RemoteNode {
        id,
        name: name(id),
        parent: parent(id),
        description: None,
        methods_description: Vec::new(),
        client: String::new(),
        labels: Vec::new(),
        interfaces: None,
        unknown_interfaces: Vec::new(),
        caller: Device::of_driver(Switch { path: String::new(), on: Mutex::new(false) }).nodes()[0]
            .caller()
            .clone(),
    };
    #[derive(Debug)]
    struct Nowhere;
    #[async_trait]
    impl jumpstarter_driver_core::Remote for Nowhere {
        async fn reset(&self) -> Result<()> {
            Ok(())
        }
        async fn close(&self) -> Result<()> {
            Ok(())
        }
    }
    Device::remote((0..count).map(node).collect(), Arc::new(Nowhere))
}

#[test]
fn what_an_exporter_reports_is_bounded() {
    let numbered = |id: usize| format!("n{id}");
    let flat = |id: usize| (id > 0).then_some(0);
    let chain = |id: usize| id.checked_sub(1);
    let begin = std::time::Instant::now();
    assert_eq!(remote(10_000, flat, numbered).unwrap().nodes().len(), 10_000);
    assert_eq!(remote(61, chain, numbered).unwrap().nodes()[60].path().matches('.').count(), 59);
    assert!(begin.elapsed().as_secs() < 10, "{:?}", begin.elapsed());
    for (device, expected) in [
        (remote(100_000, flat, numbered), "the device has more than 10000 drivers"),
        (remote(2_000, chain, numbered), "the device's tree is deeper than 60 levels"),
        (remote(2, flat, |_| "é".repeat(35_000)), "has 70000 bytes; 255 are the most"),
        (remote(2, |_| None, numbered), "`n1` is a second root"),
        (
            remote(2, |id| (id > 0).then_some(1), numbered),
            "the parent of `n1` does not come before it",
        ),
        (remote(3, flat, |_| "same".to_owned()), "there are two drivers at `same`"),
        (remote(0, flat, numbered), "the tree has no root"),
    ] {
        let error = device.unwrap_err().report();
        assert!(error.contains(expected) && error.len() < 200, "{error}");
    }
}
