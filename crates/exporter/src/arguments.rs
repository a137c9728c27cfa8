//! Decodes arguments: values, and resources that a value describes if a method takes an image.

use jumpstarter_driver_core::image::Progress;
use jumpstarter_driver_core::{
    Argument, Arguments, Error, ImageSink, MethodDescriptor, Node, ParameterKind, Result, ResultExt,
};
use jumpstarter_protocol::{ImageReference, ImageWishes};
use serde_json::Value;

use crate::Session;
use crate::progress::Watch;

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
                    (ParameterKind::Source, value) => {
                        self.source(node, method, value).with_context(doing)
                    }
                    (ParameterKind::Sink, value) => {
                        self.sink(node, method, value).with_context(doing)
                    }
                    (_, value) => Ok(Argument::Value(value)),
                }
            })
            .collect()
    }

    fn source(&self, node: &Node, method: &str, mut value: Value) -> Result<Argument> {
        let wishes = ImageWishes::take_from(&mut value)?;
        let source = match reference(value)? {
            ImageReference::ClientStream { uuid, .. } => {
                let waiting = self.0.resources.take(&uuid, node.id())?;
                waiting.into_source(self.0.options.stall_limit)
            }
            ImageReference::PresignedRequest(request) => {
                let request = request.prepare("GET")?;
                let request = match wishes.sha256() {
                    Some(sha256) => request.with_sha256(sha256),
                    None => request,
                };
                let counters = self.0.counters.clone();
                let count = move |bytes| counters.received(bytes);
                let watch = Watch::new(self, node, method, ("downloading", &request), count);
                let watch = move |progress, is_done| watch.tell(progress, is_done);
                jumpstarter_transfer::watched_download(request, self.0.options.stall_limit, watch)?
            }
            _ => return Err(unknown_reference()),
        };
        Ok(Argument::Source(wishes.apply(source)))
    }

    fn sink(&self, node: &Node, method: &str, value: Value) -> Result<Argument> {
        match reference(value)? {
            ImageReference::ClientStream { uuid, .. } => {
                Ok(Argument::Sink(self.0.resources.take(&uuid, node.id())?.into_sink()))
            }
            ImageReference::PresignedRequest(request) => {
                let request = request.prepare("PUT")?;
                let counters = self.0.counters.clone();
                let count = move |bytes| counters.sent(bytes);
                let watch = Watch::new(self, node, method, ("uploading", &request), count);
                let upload = jumpstarter_transfer::upload(request, self.0.options.stall_limit)?;
                Ok(Argument::Sink(ImageSink::writer(upload).with_observer(
                    move |progress: Progress| {
                        let is_done = progress.total_bytes == Some(progress.transferred_bytes);
                        watch.tell(progress, is_done);
                    },
                )))
            }
            _ => Err(unknown_reference()),
        }
    }
}

fn unknown_reference() -> Error {
    Error::unimplemented("this exporter does not know such an image")
}

fn reference(value: Value) -> Result<ImageReference> {
    if let Value::String(text) = &value {
        let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
        return Err(match scheme {
            "oci" => Error::invalid_argument("expected an image, not its address")
                .with_hint("call `flash_oci`, or give a request with this address"),
            _ => Error::invalid_argument("expected an image, not text"),
        });
    }
    ImageReference::from_argument(value)
}
