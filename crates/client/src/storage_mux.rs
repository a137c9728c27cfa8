//! Storage multiplexers of Python exporters as flashers: a medium that either the exporter's
//! machine or the device has.
//!
//! Their drivers write and read the medium while the machine has it; which of the two has it when,
//! only their client class knows. So this stands for that class: `flash` and `dump` take the
//! medium, and give it back whatever happens.

use std::sync::Arc;

use async_trait::async_trait;
use jumpstarter_driver_core::{
    Argument, Arguments, Caller, Error, MethodKind, Reply, Result, ResultExt,
};
use serde_json::Value;

/// Calls such a driver.
pub(crate) struct MuxCaller(pub(crate) Arc<dyn Caller>);

#[async_trait]
impl Caller for MuxCaller {
    async fn invoke(&self, method: &str, kind: MethodKind, arguments: Arguments) -> Result<Reply> {
        let with_medium = match (method, kind) {
            ("flash", MethodKind::Unary) => "write",
            ("dump", MethodKind::Unary) => "read",
            _ => return self.0.invoke(method, kind, arguments).await,
        };
        let mut arguments = arguments.into_inner().into_iter();
        let image: Arguments = arguments.next().into_iter().collect();
        if arguments.any(|argument| !matches!(argument, Argument::Value(Value::Null))) {
            let message = format!("`{method}` of a storage multiplexer takes an image only");
            return Err(
                Error::invalid_argument(message).with_hint("it has one medium and no partitions")
            );
        }
        let medium = Medium(Some(self.0.clone()));
        let result = match plain(&self.0, "host").await {
            Ok(()) => self.0.invoke(with_medium, MethodKind::Unary, image).await.map(drop),
            Err(error) => Err(error.context("taking the medium from the device")),
        };
        let returned = medium.give_back().await.context("giving the medium back to the device");
        if let (Err(_), Err(error)) = (&result, &returned) {
            tracing::warn!(error = %error.report(), "after a transfer that failed");
        }
        result.and(returned).map(|()| Reply::Value(Value::Null))
    }
}

async fn plain(caller: &Arc<dyn Caller>, method: &str) -> Result<()> {
    caller.invoke(method, MethodKind::Unary, Arguments::new()).await.map(drop)
}

/// The medium while it is taken. Dropping it, when a call is cancelled, gives it back in the
/// background.
struct Medium(Option<Arc<dyn Caller>>);

impl Medium {
    async fn give_back(mut self) -> Result<()> {
        let Some(caller) = self.0.clone() else { return Ok(()) };
        let result = plain(&caller, "dut").await;
        self.0 = None;
        result
    }
}

impl Drop for Medium {
    fn drop(&mut self) {
        if let (Some(caller), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(async move {
                if let Err(error) = plain(&caller, "dut").await {
                    tracing::warn!(error = %error.report(), "giving the medium back after a cancelled transfer");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use jumpstarter_driver_core::{Flasher, ImageSink, ImageSource, Interface};
    use tokio::sync::Notify;

    use super::*;

    /// A driver that notes its calls, and does what it is told with an image.
    struct Python {
        calls: Mutex<Vec<String>>,
        called: Notify,
        image: fn() -> Option<Result<Reply>>,
    }

    #[async_trait]
    impl Caller for Python {
        async fn invoke(&self, method: &str, _: MethodKind, arguments: Arguments) -> Result<Reply> {
            let images = arguments.into_inner().len();
            self.calls.lock().unwrap().push(format!("{method}({images})"));
            self.called.notify_one();
            match (method, (self.image)()) {
                ("write" | "read", Some(result)) => result,
                ("write" | "read", None) => std::future::pending().await,
                _ => Reply::value(()),
            }
        }
    }

    fn flasher(image: fn() -> Option<Result<Reply>>) -> (Arc<dyn Flasher>, Arc<Python>) {
        let python = Arc::new(Python { calls: Mutex::default(), called: Notify::new(), image });
        (<dyn Flasher>::remote(Arc::new(MuxCaller(python.clone()))), python)
    }

    impl Python {
        fn calls(&self) -> String {
            self.calls.lock().unwrap().join(" ")
        }
    }

    #[tokio::test]
    async fn the_medium_is_taken_and_given_back() {
        let (flasher, python) = flasher(|| Some(Reply::value("checksum")));
        flasher.flash(ImageSource::bytes(vec![1]), None).await.unwrap();
        assert_eq!(python.calls(), "host(0) write(1) dut(0)");
        flasher.dump(ImageSink::writer(tokio::io::sink()), None).await.unwrap();
        assert_eq!(python.calls(), "host(0) write(1) dut(0) host(0) read(1) dut(0)");
        let refused =
            flasher.flash(ImageSource::bytes(vec![1]), Some("root".to_owned())).await.unwrap_err();
        assert_eq!(refused.kind(), jumpstarter_driver_core::ErrorKind::InvalidArgument);
        assert_eq!(python.calls().matches("host").count(), 2);
    }

    #[tokio::test]
    async fn the_medium_is_given_back_after_a_failure() {
        let (flasher, python) = flasher(|| Some(Err(Error::data_loss("the card is worn out"))));
        let error = flasher.flash(ImageSource::bytes(vec![1]), None).await.unwrap_err();
        assert_eq!(error.report(), "the card is worn out");
        assert_eq!(python.calls(), "host(0) write(1) dut(0)");
    }

    #[tokio::test]
    async fn the_medium_is_given_back_when_the_call_is_cancelled() {
        let (flasher, python) = flasher(|| None);
        let flashing =
            tokio::spawn(async move { flasher.flash(ImageSource::bytes(vec![1]), None).await });
        let seen = |what: &'static str| {
            let python = python.clone();
            let waiting = async move {
                while !python.calls().contains(what) {
                    python.called.notified().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), waiting)
        };
        seen("write").await.unwrap();
        flashing.abort();
        seen("dut").await.unwrap();
        assert_eq!(python.calls(), "host(0) write(1) dut(0)");
    }
}
