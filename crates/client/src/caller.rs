//! The way of every call to a driver: values, images and channels.

use async_trait::async_trait;
use jumpstarter_driver_core::image::Encoding;
use jumpstarter_driver_core::{
    Argument, Arguments, Caller, Error, MethodKind, Reply, Resource, Result,
};
use serde_json::Value;

use crate::remote_driver::RemoteDriver;
use crate::{channel, images};

/// Calls one driver of an exporter.
pub(crate) struct RemoteCaller(pub(crate) RemoteDriver);

#[async_trait]
impl Caller for RemoteCaller {
    async fn invoke(&self, method: &str, kind: MethodKind, arguments: Arguments) -> Result<Reply> {
        let driver = &self.0;
        let arguments = arguments.into_inner();
        let has_images = !arguments.iter().all(|argument| matches!(argument, Argument::Value(_)));
        match kind {
            MethodKind::Unary if has_images => {
                images::call(driver, method, arguments).await.map(Reply::Value)
            }
            MethodKind::Unary => driver.call(method, &values(arguments)?).await.map(Reply::Value),
            MethodKind::Stream => {
                driver.stream(method, &values(arguments)?).await.map(Reply::Stream)
            }
            MethodKind::Channel if arguments.is_empty() => {
                channel::connect(driver, method).await.map(Reply::Channel)
            }
            MethodKind::Channel => Err(Error::invalid_argument(format!(
                "`{method}` opens a channel, which takes no arguments"
            ))),
            other => {
                Err(Error::unimplemented(format!("this client cannot call {other:?} methods")))
            }
        }
    }

    fn is_elsewhere(&self) -> bool {
        true
    }

    async fn open_resource(&self, encoding: Option<Encoding>) -> Result<Resource> {
        images::open_to_pass_on(&self.0, encoding).await
    }
}

fn values(arguments: Vec<Argument>) -> Result<Vec<Value>> {
    let value = |argument| match argument {
        Argument::Value(value) => Ok(value),
        _ => Err(Error::unimplemented("an image travels with calls that answer once only")),
    };
    arguments.into_iter().map(value).collect()
}
