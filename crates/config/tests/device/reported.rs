//! The bounds of a device that an exporter reports.

use std::sync::{Arc, Mutex};

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{Backend, Node};

use super::Switch;

/// The nodes of a device elsewhere.
fn remote(
    count: usize,
    parent: impl Fn(usize) -> Option<usize>,
    name: impl Fn(usize) -> String,
) -> Result<Device> {
    let switch = || Switch { path: String::new(), on: Mutex::new(false) };
    let caller = || Device::of_driver(switch()).nodes()[0].caller().clone();
    let node = |id| Node::remote(id, name(id), parent(id), caller());
    #[derive(Debug)]
    struct Nowhere;
    #[async_trait]
    impl Backend for Nowhere {
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
    assert!(begin.elapsed().as_secs() < 30, "{:?}", begin.elapsed());
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
