//! Flashes of several targets: everything is checked before the first write.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::generic::Flasher;
use crate::image::ImageSource;
use crate::suggest;
use crate::units::ByteSize;

/// The targets of a [`Flasher`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FlashTargets {
    /// Those that exist.
    pub known: Vec<FlashTarget>,
    /// Whether a flash to any other name makes that target.
    pub accepts_others: bool,
}

/// A target of a [`Flasher`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlashTarget {
    /// The name that a flash gives.
    pub name: String,
    /// The most bytes of a decompressed image that it takes, if that is known.
    #[serde(default)]
    pub capacity_bytes: Option<u64>,
}

impl FlashTarget {
    /// A target of unknown capacity.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), capacity_bytes: None }
    }
}

impl FlashTargets {
    /// The targets with these names, and no others.
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self { known: names.into_iter().map(FlashTarget::new).collect(), accepts_others: false }
    }

    /// Asks a flasher for its targets; `None` if it does not know them, as one in Python.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn of(flasher: &dyn Flasher) -> Result<Option<Self>> {
        match flasher.targets().await {
            Ok(targets) => Ok(Some(targets)),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unimplemented) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The target with this name, if it exists.
    pub fn get(&self, name: &str) -> Option<&FlashTarget> {
        self.known.iter().find(|target| target.name == name)
    }

    /// The names of the targets that exist.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.known.iter().map(|target| target.name.as_str())
    }

    /// Refuses a name that a flash would refuse.
    ///
    /// # Errors
    /// `InvalidArgument`, with the names that exist in the hint.
    pub fn check(&self, name: &str) -> Result<()> {
        if self.accepts_others || self.get(name).is_some() {
            return Ok(());
        }
        Err(Error::invalid_argument(format!("there is no target `{name}`"))
            .with_hint(suggest::hint(name, self.names())))
    }
}

/// Checks the images of a flash of several targets, as far as that is possible before the first
/// write: each target exists and is named once, each file can be opened and holds something, and
/// no image is known to be larger than its target. Nothing is written, and no URL or stream is
/// opened.
///
/// # Errors
/// `InvalidArgument` for a target, `ResourceExhausted` for an image that is too large, and the
/// errors of the files.
pub fn check_images<'f>(
    flasher: &'f dyn Flasher,
    images: &[(String, ImageSource)],
) -> impl Future<Output = Result<()>> + Send + use<'f> {
    // A source cannot be shared with another thread, so the future does not hold them.
    let looks = images.iter().map(|(target, source)| Look {
        target: target.clone(),
        name: source.name(),
        least: source.look_ahead().boxed(),
    });
    let looks: Vec<_> = looks.collect();
    async move { check(flasher, looks).await.context("nothing was written") }
}

/// An image that is checked.
struct Look {
    target: String,
    name: String,
    least: BoxFuture<'static, Result<Option<u64>>>,
}

async fn check(flasher: &dyn Flasher, images: Vec<Look>) -> Result<()> {
    for (number, image) in images.iter().enumerate() {
        if images[..number].iter().any(|other| other.target == image.target) {
            let message = format!("the target `{}` is named twice", image.target);
            return Err(Error::invalid_argument(message).with_hint("name each target once"));
        }
    }
    let targets = FlashTargets::of(flasher).await?;
    for image in &images {
        targets.as_ref().map_or(Ok(()), |targets| targets.check(&image.target))?;
    }
    for Look { target, name, least } in images {
        let least = least.await?;
        let capacity = targets.as_ref().and_then(|it| it.get(&target)?.capacity_bytes);
        if let (Some(least), Some(capacity)) = (least, capacity)
            && least > capacity
        {
            let (least, capacity) = (ByteSize::bytes(least), ByteSize::bytes(capacity));
            let message = format!("{name} needs {least}, and the target `{target}` has {capacity}");
            return Err(Error::resource_exhausted(message)
                .with_hint("flash a smaller image, or use a larger target"));
        }
    }
    Ok(())
}

/// Flashes several targets, one after the other, once [`check_images`] has found no fault in any of
/// them.
///
/// ```no_run
/// # use jumpstarter_driver_core::{Device, Flasher, ImageSource, Result, flash_images};
/// # async fn example(device: Device) -> Result<()> {
/// let flasher = device.get::<dyn Flasher>("flasher")?;
/// let images = [("boot", "a.img"), ("rootfs", "b.img.zst")];
/// flash_images(&*flasher, images.map(|(target, file)| (target, ImageSource::path(file)))).await
/// # }
/// ```
///
/// # Errors
/// Those of [`check_images`], before anything is written. Those of a flash, with its target: the
/// targets before it have their new images then.
pub async fn flash_images(
    flasher: &dyn Flasher,
    images: impl IntoIterator<Item = (impl Into<String>, ImageSource)>,
) -> Result<()> {
    let images: Vec<_> = images.into_iter().map(|(name, source)| (name.into(), source)).collect();
    check_images(flasher, &images).await?;
    let mut done: Vec<String> = Vec::new();
    for (name, source) in images {
        let flashing = flasher.flash(source, Some(name.clone())).await;
        flashing.with_context(|| match done.as_slice() {
            [] => format!("flashing the target `{name}`"),
            done => {
                let done = suggest::list(done.iter().map(String::as_str));
                format!("flashing the target `{name}`, after {done}")
            }
        })?;
        done.push(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::image::ImageSink;

    /// Records what is flashed, and fails for one target.
    #[derive(Default)]
    struct Fake {
        targets: Option<FlashTargets>,
        flashed: Mutex<Vec<String>>,
    }

    #[async_trait::async_trait]
    impl Flasher for Fake {
        async fn flash(&self, _: ImageSource, target: Option<String>) -> Result<()> {
            let target = target.unwrap_or_default();
            if target == "worn" {
                return Err(Error::data_loss("it is worn out"));
            }
            self.flashed.lock().unwrap().push(target);
            Ok(())
        }

        async fn dump(&self, _: ImageSink, _: Option<String>) -> Result<()> {
            Ok(())
        }

        async fn targets(&self) -> Result<FlashTargets> {
            self.targets.clone().ok_or_else(|| Error::not_found("there is no method `targets`"))
        }
    }

    async fn flash(fake: &Fake, names: &[&str]) -> (String, String, Vec<String>) {
        let images = names.iter().map(|name| (*name, ImageSource::bytes("new")));
        let error = flash_images(fake, images).await.err();
        let (report, hint) = error.map_or_else(Default::default, |error| {
            (format!("{error:#}"), error.hint().unwrap_or_default().to_owned())
        });
        (report, hint, std::mem::take(&mut fake.flashed.lock().unwrap()))
    }

    #[tokio::test]
    async fn an_unknown_target_is_refused_before_the_first_write() {
        let targets = Some(FlashTargets::from_names(["boot", "rootfs"]));
        let fake = Fake { targets, ..Fake::default() };
        let (report, hint, flashed) = flash(&fake, &["boot", "rootf"]).await;
        assert_eq!(report, "nothing was written: there is no target `rootf`");
        assert_eq!(hint, "did you mean `rootfs`? There are `boot` and `rootfs`");
        assert!(flashed.is_empty());
        let (report, _, flashed) = flash(&fake, &["boot", "boot"]).await;
        assert_eq!(report, "nothing was written: the target `boot` is named twice");
        assert!(flashed.is_empty());
        let (report, _, flashed) = flash(&fake, &["rootfs", "boot"]).await;
        assert_eq!((report.as_str(), flashed.join(" ").as_str()), ("", "rootfs boot"));
    }

    #[tokio::test]
    async fn a_flasher_that_knows_no_targets_judges_each_name_itself() {
        let (report, _, flashed) = flash(&Fake::default(), &["a", "b", "worn", "c"]).await;
        assert_eq!(report, "flashing the target `worn`, after `a` and `b`: it is worn out");
        assert_eq!(flashed.join(" "), "a b");
    }

    #[tokio::test]
    async fn files_are_opened_before_the_first_write() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty");
        std::fs::write(&empty, "").unwrap();
        let missing = folder.path().join("missing");
        for (path, kind) in [
            (folder.path(), ErrorKind::InvalidArgument),
            (&empty, ErrorKind::DataLoss),
            (&missing, ErrorKind::NotFound),
        ] {
            let fake = Fake::default();
            let images = [("a", ImageSource::bytes("new")), ("b", ImageSource::path(path))];
            let error = flash_images(&fake, images).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{error:?}");
            assert!(error.report().starts_with("nothing was written: opening "), "{error:?}");
            assert!(fake.flashed.lock().unwrap().is_empty());
        }
    }
}
