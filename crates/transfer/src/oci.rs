//! Images in registries of container images (`oci://registry/repository:tag`), by the OCI
//! distribution specification (<https://github.com/opencontainers/distribution-spec>).

mod credentials;
mod manifest;
mod reference;
mod registry;

use futures_util::FutureExt;
use jumpstarter_driver_core::image::ImageRequest;
use jumpstarter_driver_core::{Error, Result};

use self::manifest::Manifest;
pub(crate) use self::reference::Reference;
use self::registry::Registry;
use crate::answer::{Image, image};
use crate::cache::cached;
use crate::check::Expected;
use crate::settings::Settings;

/// The image at `reference`. The request's `authorization` header, if it has one, is for the
/// registry alone.
pub(crate) async fn fetch(
    reference: Reference,
    request: ImageRequest,
    settings: Settings,
) -> Result<Image> {
    let mut registry = Registry::new(&reference, &request, settings.clone());
    let mut manifest = registry.manifest(&reference.version).await?;
    if let Manifest::Index(entries) = &manifest {
        let digest = manifest::choose_platform(entries, &reference)?.digest.clone();
        manifest = registry.manifest(&digest).await?;
    }
    let Manifest::Image(layers) = manifest else {
        return Err(Error::failed_precondition(format!("{reference} is an index of indexes")));
    };
    let layer = manifest::choose_layer(&layers, &reference)?.clone();
    let layer_size = layer.size;
    let expected = Expected {
        sha256: layer.digest.trim_start_matches("sha256:").to_owned(),
        size: Some(layer.size),
        wrong: format!("the layer {} is not what the manifest names", layer.digest),
        hint: "get it again; if it fails again, the registry is damaged".to_owned(),
    };
    let fetch = async move {
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
        Ok(blob)
    };
    let image = cached(settings, expected, fetch.boxed()).await?;
    Ok(Image { length: Some(layer_size), ..image })
}
