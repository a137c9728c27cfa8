//! Closing a device: once, to the end, with one result for all who ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jumpstarter_driver_core::Child;
use jumpstarter_driver_core::prelude::*;
use tokio::sync::{Notify, Semaphore};

/// A driver whose close waits until it may end, and then ends as configured.
struct Slow {
    begun: Arc<Notify>,
    may_end: Arc<Semaphore>,
    ended: Arc<AtomicUsize>,
    children: Vec<(&'static str, Arc<dyn Driver>)>,
    ends: fn() -> Result<()>,
}

impl Slow {
    fn new(ends: fn() -> Result<()>) -> Self {
        Self {
            begun: Arc::default(),
            may_end: Arc::new(Semaphore::new(0)),
            ended: Arc::default(),
            children: Vec::new(),
            ends,
        }
    }
}

#[async_trait]
impl Driver for Slow {
    fn children(&self) -> Vec<Child> {
        self.children.iter().map(|(name, driver)| Child::new(*name, driver.clone())).collect()
    }
    async fn close(&self) -> Result<()> {
        self.begun.notify_one();
        let permit = self.may_end.acquire().await;
        drop(permit);
        self.ended.fetch_add(1, Ordering::SeqCst);
        (self.ends)()
    }
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it ends in time")
}

#[tokio::test]
async fn a_second_caller_waits_for_the_end_too() {
    let slow = Slow::new(|| Err(Error::unavailable("the bus is gone").with_hint("plug it in")));
    let (begun, may_end, ended) = (slow.begun.clone(), slow.may_end.clone(), slow.ended.clone());
    let device = Device::of_driver(slow);
    let first = tokio::spawn({
        let device = device.clone();
        async move { device.close().await }
    });
    in_time(begun.notified()).await;
    let second = tokio::spawn({
        let device = device.clone();
        async move { device.close().await }
    });
    tokio::task::yield_now().await;
    assert!(!second.is_finished());
    may_end.add_permits(1);
    for result in
        [in_time(first).await.unwrap(), in_time(second).await.unwrap(), device.close().await]
    {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.report(), "closing `the root`: the bus is gone\nhint: plug it in");
    }
    assert_eq!(ended.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_cancelled_close_goes_on_and_can_be_waited_for_again() {
    let slow = Slow::new(|| Ok(()));
    let (begun, may_end, ended) = (slow.begun.clone(), slow.may_end.clone(), slow.ended.clone());
    let device = Device::of_driver(slow);
    let waiting = tokio::spawn({
        let device = device.clone();
        async move { device.close().await }
    });
    in_time(begun.notified()).await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    assert_eq!(ended.load(Ordering::SeqCst), 0);
    may_end.add_permits(1);
    in_time(device.close()).await.unwrap();
    assert_eq!(ended.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_driver_that_panics_does_not_keep_the_others_open() {
    let good = Slow::new(|| Ok(()));
    let ended = good.ended.clone();
    good.may_end.add_permits(1);
    let mut bad = Slow::new(|| panic!("a screw is loose"));
    bad.may_end.add_permits(1);
    bad.children.push(("below", Arc::new(good)));
    let device = Device::of_driver(bad);
    for _ in 0..2 {
        let error = in_time(device.close()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(error.report(), "closing `the root`: it panicked: a screw is loose");
    }
    assert_eq!(ended.load(Ordering::SeqCst), 1);
}

#[test]
fn a_device_is_closed_without_a_runtime_too() {
    let slow = Slow::new(|| Ok(()));
    slow.may_end.add_permits(1);
    let ended = slow.ended.clone();
    futures_util::FutureExt::now_or_never(Device::of_driver(slow).close()).unwrap().unwrap();
    assert_eq!(ended.load(Ordering::SeqCst), 1);
}
