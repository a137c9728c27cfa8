//! Independent drivers: a device opens, resets and closes them at the same time.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{Planned, Registry};
use serde_json::json;
use tokio::sync::Barrier;

/// Where all three wait for one another.
static MEETING: LazyLock<Barrier> = LazyLock::new(|| Barrier::new(3));
/// What happened, in order.
static EVENTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn note(event: &str, name: &str) {
    EVENTS.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{event} {name}"));
}

/// What happened since the last time.
fn events() -> Vec<String> {
    std::mem::take(&mut EVENTS.lock().unwrap())
}

/// Goes on once three of them are at the same point.
#[config]
struct Meets {
    /// Whether it does not open.
    fails: bool,
}

struct Met(String);

#[async_trait]
impl DriverConfig for Meets {
    const NAME: &'static str = "meets";
    const IS_INDEPENDENT: bool = true;
    type Driver = Met;

    async fn open(self, context: OpenContext) -> Result<Met> {
        MEETING.wait().await;
        match self.fails {
            true => Err(Error::unavailable("it is switched off")),
            false => Ok(Met(context.path().to_owned())),
        }
    }
}

#[async_trait]
impl Driver for Met {
    async fn reset(&self) -> Result<()> {
        MEETING.wait().await;
        Err(Error::unavailable(format!("{} is stuck", self.0)))
    }
    async fn renew(&self) -> Result<()> {
        MEETING.wait().await;
        Ok(())
    }
    async fn close(&self) -> Result<()> {
        note("close", &self.0);
        Ok(())
    }
}

/// One of the others: it is opened after the independent ones, and closed before them.
#[config]
struct Waits {}

struct Waited(String);

#[async_trait]
impl DriverConfig for Waits {
    const NAME: &'static str = "waits";
    type Driver = Waited;

    async fn open(self, context: OpenContext) -> Result<Waited> {
        note("open", context.path());
        Ok(Waited(context.path().to_owned()))
    }
}

#[async_trait]
impl Driver for Waited {
    async fn close(&self) -> Result<()> {
        note("close", &self.0);
        Ok(())
    }
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it ends in time")
}

#[tokio::test]
async fn independent_drivers_are_opened_reset_and_closed_together() {
    let registry = Registry::new().with::<Meets>().with::<Waits>();
    let meets = |name: &str, fails: bool| {
        Planned::driver(name, registry.find("meets").unwrap(), json!({"fails": fails}))
    };
    let waits = |name: &str| Planned::driver(name, registry.find("waits").unwrap(), json!({}));
    let plan = |fails: bool| {
        [
            waits("first"),
            meets("a", false),
            waits("parent").with_child(meets("b", false)),
            meets("c", fails),
        ]
    };

    let device = in_time(Device::open(&plan(false))).await.unwrap();
    assert_eq!(events(), ["open first", "open parent"]);
    let error = in_time(device.reset()).await.unwrap_err();
    assert_eq!(error.report(), "resetting `a`: a is stuck", "the first in the file's order");
    in_time(device.renew()).await.unwrap();
    in_time(device.close()).await.unwrap();
    let mut closed = events();
    assert_eq!(closed[..2], ["close parent", "close first"]);
    closed[2..].sort();
    assert_eq!(closed[2..], ["close a", "close c", "close parent.b"]);

    let error = in_time(Device::open(&plan(true))).await.unwrap_err();
    assert_eq!(error.report(), "opening `c` (driver meets): it is switched off");
    let mut closed = events();
    closed.sort();
    assert_eq!(closed, ["close a", "close parent.b"], "nothing else was opened");
}
