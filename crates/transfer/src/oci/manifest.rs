//! Manifests and indexes, and what of them is wanted.

use std::collections::BTreeMap;

use jumpstarter_driver_core::image::hex;
use jumpstarter_driver_core::{Error, Result, ResultExt};
use ring::digest::{Context, SHA256};
use serde::Deserialize;

use super::reference::Reference;

/// What a registry is asked for.
pub(crate) const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";

/// The layers of an image, or the images of an index.
#[derive(Debug)]
pub(crate) enum Manifest {
    Image(Vec<Descriptor>),
    Index(Vec<Descriptor>),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Descriptor {
    fn platform(&self) -> String {
        self.platform.as_ref().map_or_else(String::new, |platform| {
            let variant = platform.variant.iter().map(|variant| format!("/{variant}"));
            format!("{}/{}{}", platform.os, platform.architecture, variant.collect::<String>())
        })
    }

    fn title(&self) -> &str {
        let title = self.annotations.get("org.opencontainers.image.title");
        title.map_or(self.digest.as_str(), String::as_str)
    }
}

impl Manifest {
    /// Reads a manifest. Its digests are all of the kind that is checked here.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Document {
            manifests: Option<Vec<Descriptor>>,
            layers: Option<Vec<Descriptor>>,
        }
        let document: Document = serde_json::from_slice(bytes)
            .map_err(|error| Error::data_loss("it is no manifest").with_source(error))
            .context("reading the image's manifest")?;
        let manifest = match (document.manifests, document.layers) {
            (Some(entries), None) => Self::Index(entries),
            (None, Some(layers)) => Self::Image(layers),
            _ => {
                return Err(Error::failed_precondition(
                    "the registry's manifest has neither layers nor images: it may be of an old format",
                ));
            }
        };
        let (Self::Image(all) | Self::Index(all)) = &manifest;
        match all.iter().find(|entry| !is_digest(&entry.digest)) {
            Some(entry) => {
                let digest = jumpstarter_text::truncated(&entry.digest, 80);
                let digest = jumpstarter_text::line(&digest).into_owned();
                Err(Error::failed_precondition(format!("the digest `{digest}` is no SHA-256")))
            }
            None => Ok(manifest),
        }
    }
}

/// The image of an index for the wanted platform, or the only one.
pub(crate) fn choose_platform<'a>(
    entries: &'a [Descriptor],
    reference: &Reference,
) -> Result<&'a Descriptor> {
    // Attestations are of an unknown platform.
    let images = entries.iter().filter(|entry| entry.platform() != "unknown/unknown");
    let images: Vec<_> = images.collect();
    let found: Vec<_> = match &reference.platform {
        Some(wanted) => images.iter().filter(|entry| entry.platform() == *wanted).collect(),
        None => images.iter().collect(),
    };
    if let [only] = found.as_slice() {
        return Ok(only);
    }
    let names = names(images.iter().map(|entry| entry.platform()));
    let message = match &reference.platform {
        Some(wanted) => format!("{reference} has no image for {wanted}, only for {names}"),
        None => format!("{reference} has several images: {names}"),
    };
    let hint = "name one of them with ?platform=OS/ARCHITECTURE, or an image by its digest";
    Err(Error::invalid_argument(message).with_hint(hint))
}

/// The wanted layer, or the only one.
pub(crate) fn choose_layer<'a>(
    layers: &'a [Descriptor],
    reference: &Reference,
) -> Result<&'a Descriptor> {
    let is_image = |layer: &&Descriptor| {
        !matches!(
            layer.media_type.as_str(),
            "application/vnd.oci.empty.v1+json" | "application/vnd.in-toto+json"
        )
    };
    let images: Vec<_> = layers.iter().filter(is_image).collect();
    let is_wanted = |layer: &&Descriptor| match &reference.layer {
        Some(wanted) => layer.title() == wanted || layer.digest == *wanted,
        None => true,
    };
    let found: Vec<_> = images.iter().copied().filter(is_wanted).collect();
    match found.as_slice() {
        [] if images.is_empty() => {
            Err(Error::failed_precondition(format!("{reference} has no layer")))
        }
        [only] => match container(only) {
            Some(error) => Err(error.context(reference.to_string())),
            None => Ok(only),
        },
        found => {
            let names = names(images.iter().map(|layer| layer.title().to_owned()));
            let has = if found.is_empty() { "no such layer, only" } else { "several layers:" };
            Err(Error::invalid_argument(format!("{reference} has {has} {names}"))
                .with_hint("name one of them with ?layer=TITLE or ?layer=sha256:…"))
        }
    }
}

/// Why a layer is no image: those of container images are archives of files.
fn container(layer: &Descriptor) -> Option<Error> {
    let kind = layer.media_type.as_str();
    let is_archive = kind.starts_with("application/vnd.oci.image.layer.") && kind.contains(".tar")
        || kind.starts_with("application/vnd.docker.image.rootfs.");
    is_archive.then(|| {
        Error::failed_precondition("it is a container image, whose layers are archives of files")
            .with_hint(
                "push the disk image as it is: `oras push REGISTRY/REPOSITORY:TAG disk.img.zst`",
            )
    })
}

fn names(names: impl Iterator<Item = String>) -> String {
    let names = names.collect::<Vec<_>>().join(", ");
    let names = jumpstarter_text::truncated(&names, 400);
    jumpstarter_text::line(&names).into_owned()
}

/// Whether this is a SHA-256 as manifests write it.
pub(crate) fn is_digest(text: &str) -> bool {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(is_hex))
}

/// The digest, as manifests write it.
pub(crate) fn digest_of(context: Context) -> String {
    format!("sha256:{}", hex(context.finish().as_ref()))
}

/// Refuses bytes with another digest than the wanted one.
pub(crate) fn check_digest(bytes: &[u8], wanted: &str) -> Result<()> {
    let mut context = Context::new(&SHA256);
    context.update(bytes);
    let found = digest_of(context);
    match found == wanted {
        true => Ok(()),
        false => Err(Error::data_loss(format!("the manifest {wanted} has the digest {found}"))),
    }
}
