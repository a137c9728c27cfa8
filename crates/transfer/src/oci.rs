//! Images in registries of container images (`oci://registry/repository:tag`), by the OCI
//! distribution specification (<https://github.com/opencontainers/distribution-spec>).

mod credentials;
mod manifest;
mod reference;
mod registry;

use std::io;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use jumpstarter_driver_core::image::ImageRequest;
use jumpstarter_driver_core::{Error, Result};
use ring::digest::{Context, SHA256};

use self::manifest::{Descriptor, Manifest};
pub(crate) use self::reference::Reference;
use self::registry::Registry;
use crate::answer::{Image, image};
use crate::decode::Chunks;
use crate::settings::Settings;

/// The image at `reference`. The request's `authorization` header, if it has one, is for the
/// registry alone.
pub(crate) async fn fetch(
    reference: Reference,
    request: ImageRequest,
    settings: Settings,
) -> Result<Image> {
    let mut registry = Registry::new(&reference, &request, settings);
    let mut manifest = registry.manifest(&reference.version).await?;
    if let Manifest::Index(entries) = &manifest {
        let digest = manifest::choose_platform(entries, &reference)?.digest.clone();
        manifest = registry.manifest(&digest).await?;
    }
    let Manifest::Image(layers) = manifest else {
        return Err(Error::failed_precondition(format!("{reference} is an index of indexes")));
    };
    let layer = manifest::choose_layer(&layers, &reference)?.clone();
    let (way, answer) = registry.blob(&layer.digest).await?;
    // The digest detects what is missing.
    let blob = image(way, answer, true).await?;
    if blob.length.is_some_and(|length| length != layer.size) {
        return Err(Error::data_loss(format!(
            "the registry announces {} bytes for {}, and its manifest {}",
            blob.length.unwrap_or_default(),
            layer.digest,
            layer.size
        )));
    }
    Ok(Image { length: Some(layer.size), chunks: checked(blob.chunks, layer) })
}

/// Passes `chunks` on, and fails at their end, or as soon as they are too many, if they are not the
/// layer.
fn checked(chunks: Chunks, layer: Descriptor) -> Chunks {
    let state = Some((chunks, layer, Context::new(&SHA256), 0_u64));
    let next = async |state: Option<(Chunks, Descriptor, Context, u64)>| {
        let (mut chunks, layer, mut context, mut count) = state?;
        let wrong = |why: String| Some((Err(io::Error::from(wrong(&layer, &why))), None));
        match chunks.next().await {
            Some(Ok(chunk)) => {
                count += chunk.len() as u64;
                if count > layer.size {
                    return wrong(format!("it is longer than {} bytes", layer.size));
                }
                context.update(&chunk);
                Some((Ok::<Bytes, _>(chunk), Some((chunks, layer, context, count))))
            }
            Some(Err(error)) => Some((Err(error), None)),
            None if count < layer.size => {
                wrong(format!("it ended after {count} of {} bytes", layer.size))
            }
            None => {
                let found = manifest::digest_of(context);
                if found == layer.digest { None } else { wrong(format!("its digest is {found}")) }
            }
        }
    };
    stream::unfold(state, next).boxed()
}

fn wrong(layer: &Descriptor, why: &str) -> Error {
    Error::data_loss(format!("the layer {} is not what the manifest names: {why}", layer.digest))
        .with_hint("get it again; if it fails again, the registry is damaged")
}
