//! Arguments as they arrive: values, and where a method takes an image, the resource that a value describes.

use std::sync::atomic::{AtomicU64, Ordering};

use jumpstarter_driver_core::arguments::{Argument, Arguments};
use jumpstarter_driver_core::device::Node;
use jumpstarter_driver_core::image::Progress;
use jumpstarter_driver_core::interface::{MethodDescriptor, ParameterKind};
use jumpstarter_driver_core::{Error, ImageSink, Result, ResultExt};
use serde_json::Value;

use crate::Session;
use crate::resource::Reference;

impl Session {
    pub(crate) fn arguments(
        &self,
        node: &Node,
        method: &str,
        descriptor: Option<&MethodDescriptor>,
        values: Vec<Value>,
    ) -> Result<Arguments> {
        let parameters = descriptor.map_or(&[][..], |descriptor| descriptor.parameters);
        let kinds = parameters.iter().map(|parameter| (parameter.kind, parameter.name));
        let kinds = kinds.chain(std::iter::repeat((ParameterKind::Value, "")));
        values
            .into_iter()
            .zip(kinds)
            .map(|(value, (kind, name))| {
                let doing = || format!("argument `{name}` of `{method}`");
                match (kind, value) {
                    (_, Value::Null) => Ok(Argument::Value(Value::Null)),
                    (ParameterKind::Source, value) => self.source(node, value).with_context(doing),
                    (ParameterKind::Sink, value) => self.sink(node, value).with_context(doing),
                    (_, value) => Ok(Argument::Value(value)),
                }
            })
            .collect()
    }

    fn source(&self, node: &Node, value: Value) -> Result<Argument> {
        match reference(value)? {
            Reference::ClientStream { uuid } => {
                let waiting = self.0.resources.take(&uuid, node.id())?;
                Ok(Argument::Source(waiting.into_source(self.0.options.stall_limit)))
            }
            Reference::PresignedRequest(request) => {
                let request = request.prepare("GET")?;
                let source = jumpstarter_transfer::download(request, self.0.options.stall_limit)?;
                let metrics = self.0.metrics.clone();
                Ok(Argument::Source(source.with_observer(counting(move |bytes| metrics.received(bytes)))))
            }
        }
    }

    fn sink(&self, node: &Node, value: Value) -> Result<Argument> {
        match reference(value)? {
            Reference::ClientStream { uuid } => {
                Ok(Argument::Sink(self.0.resources.take(&uuid, node.id())?.into_sink()))
            }
            Reference::PresignedRequest(request) => {
                let upload =
                    jumpstarter_transfer::upload(request.prepare("PUT")?, self.0.options.stall_limit)?;
                let metrics = self.0.metrics.clone();
                let sink = ImageSink::writer(upload);
                Ok(Argument::Sink(sink.with_observer(counting(move |bytes| metrics.sent(bytes)))))
            }
        }
    }
}

/// Counts the bytes of a transfer, which tells how many there were so far.
fn counting(count: impl Fn(usize) + Send + Sync + 'static) -> impl Fn(Progress) + Send + Sync + 'static {
    let counted = AtomicU64::new(0);
    move |progress| {
        let before = counted.fetch_max(progress.transferred_bytes, Ordering::Relaxed);
        count(usize::try_from(progress.transferred_bytes.saturating_sub(before)).unwrap_or(usize::MAX));
    }
}

fn reference(value: Value) -> Result<Reference> {
    if let Value::String(text) = &value {
        let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
        return Err(match scheme {
            "oci" => Error::unimplemented("this exporter does not read images from OCI registries")
                .with_hint("download the image and flash the file"),
            _ => Error::invalid_argument("expected an image, not text"),
        });
    }
    serde_json::from_value(value).map_err(|error| {
        Error::invalid_argument("expected an image: the resource of a stream, or a presigned request")
            .with_source(error)
    })
}
