//! Storage multiplexers of Python exporters as flashers: a medium is connected either to the
//! exporter's host or to the device.
//!
//! Their exporter serves `host`, `dut`, `off`, `write` and `read`; the Python client class makes
//! `flash` and `dump` of these. This module replaces that class.

use std::sync::Arc;

use async_trait::async_trait;
use jumpstarter_driver_core::image::Encoding;
use jumpstarter_driver_core::storage::{dump_medium, flash_medium};
use jumpstarter_driver_core::{
    Argument, Arguments, Caller, Error, Interface, MethodKind, Reply, Resource, Result, StorageMux,
};
use serde_json::Value;

/// Calls such a driver.
pub(crate) struct MuxCaller(pub(crate) Arc<dyn Caller>);

#[async_trait]
impl Caller for MuxCaller {
    async fn invoke(&self, method: &str, kind: MethodKind, arguments: Arguments) -> Result<Reply> {
        if !matches!((method, kind), ("flash" | "dump", MethodKind::Unary)) {
            return self.0.invoke(method, kind, arguments).await;
        }
        let mux = <dyn StorageMux>::remote(Arc::new(WithoutAnswers(self.0.clone())));
        let mut arguments = arguments.into_inner().into_iter();
        let image = arguments.next();
        if arguments.any(|argument| !matches!(argument, Argument::Value(Value::Null))) {
            let message = format!("`{method}` of a storage multiplexer takes an image only");
            return Err(Error::invalid_argument(message)
                .with_hint("leave out the target: the driver has one medium and no partitions"));
        }
        match image {
            Some(Argument::Source(source)) if method == "flash" => flash_medium(mux, source).await,
            Some(Argument::Sink(target)) if method == "dump" => dump_medium(mux, target).await,
            _ => Err(Error::invalid_argument(format!("`{method}` takes an image"))),
        }?;
        Reply::value(())
    }

    fn is_elsewhere(&self) -> bool {
        self.0.is_elsewhere()
    }

    async fn open_resource(&self, encoding: Option<Encoding>) -> Result<Resource> {
        self.0.open_resource(encoding).await
    }
}

/// Drops what the driver answers: some of them return a checksum.
struct WithoutAnswers(Arc<dyn Caller>);

#[async_trait]
impl Caller for WithoutAnswers {
    async fn invoke(&self, method: &str, kind: MethodKind, arguments: Arguments) -> Result<Reply> {
        self.0.invoke(method, kind, arguments).await?;
        Reply::value(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use jumpstarter_driver_core::{Flasher, ImageSink, ImageSource, Interface};
    use tokio::sync::Notify;

    use super::*;

    /// A driver that records its calls, and treats an image as configured.
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
