//! A driver with a new interface, a child that it makes, and children that it is given.

use std::fs::File;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use futures_util::StreamExt;
use jumpstarter_driver_core::Framing;
use jumpstarter_driver_core::prelude::*;

use super::power::PowerFake;

/// Which fault it has; `none` for none.
#[config]
pub(crate) struct OwnConfig {
    /// The fault.
    fault: String,
}

/// Measures.
#[interface(name = "meter", client = "fake.client.Meter")]
pub(crate) trait Meter {
    /// Streams what the port 3 measures.
    async fn watch(&self, port: u32) -> Result<ValueStream<u32>>;
    /// Opens what it prints.
    async fn tap(&self) -> Result<Channel>;
}

pub(crate) struct OwnFake {
    fault: String,
    watched: AtomicBool,
    files: Mutex<Vec<File>>,
    given: usize,
}

#[async_trait]
impl DriverConfig for OwnConfig {
    const NAME: &'static str = "fake-own";
    type Driver = OwnFake;
    fn children(&self) -> Option<Vec<PlannedChild>> {
        Some(vec![PlannedChild::new("power").with::<dyn Power>()])
    }
    async fn open(self, context: OpenContext) -> Result<OwnFake> {
        let (watched, files) = Default::default();
        Ok(OwnFake { fault: self.fault, watched, files, given: context.children.len() })
    }
}
register_driver!(OwnConfig);

#[async_trait]
impl Driver for OwnFake {
    interfaces!(Meter);
    fn children(&self) -> Vec<Child> {
        let fault = if self.fault == "child" { "on when on" } else { "none" };
        vec![Child::new("power", Arc::new(PowerFake::open(fault.to_owned())))]
    }
    async fn close(&self) -> Result<()> {
        self.files.lock().unwrap().clear();
        Ok(())
    }
}

#[async_trait]
impl Meter for OwnFake {
    async fn watch(&self, port: u32) -> Result<ValueStream<u32>> {
        if port != 3 {
            return Err(Error::invalid_argument("only the port 3 measures"));
        }
        if self.fault == "watches once" && self.watched.swap(true, SeqCst) {
            return Err(Error::failed_precondition("somebody watches"));
        }
        Ok(futures_util::stream::iter((0..3).map(Ok)).boxed())
    }

    async fn tap(&self) -> Result<Channel> {
        if self.given != 1 {
            return Err(Error::failed_precondition("it was given no child"));
        }
        if self.fault == "keeps taps" {
            self.files.lock().unwrap().push(File::open("/dev/null")?);
        }
        Ok(Channel::pair(Framing::Bytes).0)
    }
}
