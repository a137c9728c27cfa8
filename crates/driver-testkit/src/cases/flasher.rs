//! Cases of `Flasher`. Each flashes [`image::old`], then something with [`image::new`], and reads
//! back.

mod sinks;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use jumpstarter_driver_core::{ErrorKind, FlashTargets, ImageSink, ImageSource, Progress, Result};
use tokio::sync::Notify;

pub(super) use self::sinks::Collected;
use self::sinks::{Broken, Stuck};
use crate::case::{MustSucceed, Outcome, ensure};
use crate::image;
use crate::instance::Instance;
use crate::medium::Content;

/// How long the suite watches for late writes after a cancelled flash.
const LATE: Duration = Duration::from_millis(200);

/// FLASHER-1: what was flashed is what is dumped.
pub(crate) async fn raw_image_comes_back(instance: &Instance) -> Outcome {
    flash(instance, ImageSource::bytes(instance.options.old_image())).await.must("flashing")?;
    holds(instance, &instance.options.old_image()).await?;
    flash(instance, ImageSource::bytes(instance.options.new_image()))
        .await
        .must("flashing over an image")?;
    holds(instance, &instance.options.new_image()).await
}

/// FLASHER-2: an image compressed with gzip is written decompressed, but for a flasher that keeps
/// images as they come.
pub(crate) async fn gzip_image_is_decompressed(instance: &Instance) -> Outcome {
    decompressed(instance, "gzip").await
}

/// FLASHER-3: an image compressed with xz is written decompressed.
pub(crate) async fn xz_image_is_decompressed(instance: &Instance) -> Outcome {
    decompressed(instance, "xz").await
}

/// FLASHER-4: an image compressed with bzip2 is written decompressed.
pub(crate) async fn bzip2_image_is_decompressed(instance: &Instance) -> Outcome {
    decompressed(instance, "bzip2").await
}

/// FLASHER-5: an image compressed with zstd is written decompressed.
pub(crate) async fn zstd_image_is_decompressed(instance: &Instance) -> Outcome {
    decompressed(instance, "zstd").await
}

/// FLASHER-6: a transfer that ends before its announced length is `DataLoss`, and the old image
/// stays.
pub(crate) async fn truncated_transfer_is_data_loss(instance: &Instance) -> Outcome {
    let image = Bytes::from(instance.options.new_image());
    let half = image.slice(..image.len() / 2);
    let source = ImageSource::stream(stream::iter([Ok(half)]), Some(image.len() as u64));
    refused(instance, source, "a truncated transfer", &[ErrorKind::DataLoss]).await
}

/// FLASHER-7: a compressed image that ends early is `DataLoss`, and the old image stays.
pub(crate) async fn truncated_compression_is_refused(instance: &Instance) -> Outcome {
    for tool in ["gzip", "xz", "bzip2", "zstd"] {
        let whole = compressed(tool);
        let start = whole.slice(..whole.len() * 2 / 3);
        let source = ImageSource::bytes(start.clone());
        if instance.options.as_is {
            // For the flasher this is a complete image.
            flash(instance, source)
                .await
                .must(&format!("flashing the beginning of a {tool} image"))?;
            holds(instance, &start).await?;
            continue;
        }
        refused(instance, source, &format!("a truncated {tool} image"), &[ErrorKind::DataLoss])
            .await?;
    }
    Ok(())
}

/// FLASHER-8: a source that fails half-way fails the flash, and the old image stays.
pub(crate) async fn failing_source_is_refused(instance: &Instance) -> Outcome {
    let image = Bytes::from(instance.options.new_image());
    let failure =
        || io::Error::new(io::ErrorKind::ConnectionReset, "the source failed, as the test wants");
    let source = ImageSource::stream(
        stream::iter([Ok(image.slice(..image.len() / 2)), Err(failure())]),
        None,
    );
    refused(instance, source, "a source that fails half-way", &[]).await
}

/// FLASHER-9: an image of another SHA-256 than expected is `DataLoss`, the old image stays, and the
/// right one passes.
pub(crate) async fn digest_is_checked(instance: &Instance) -> Outcome {
    let wanted = |digest: &str| {
        ImageSource::bytes(image::new()).expect_sha256(digest).must("expecting a digest")
    };
    let wrong = "0123456789abcdef".repeat(4);
    refused(instance, wanted(&wrong)?, "an image of another digest", &[ErrorKind::DataLoss])
        .await?;
    flash(instance, wanted(image::NEW_SHA256)?)
        .await
        .must("flashing an image of the expected digest")?;
    holds(instance, &image::new()).await
}

/// FLASHER-10: an empty source is refused, and the old image stays.
pub(crate) async fn empty_source_is_refused(instance: &Instance) -> Outcome {
    refused(instance, ImageSource::bytes(Bytes::new()), "an empty source", &[]).await?;
    let nothing = stream::iter(Vec::<io::Result<Bytes>>::new());
    refused(instance, ImageSource::stream(nothing, None), "an empty stream", &[]).await
}

/// FLASHER-11: a target that does not exist is `InvalidArgument` or `NotFound`, for flashing and
/// for dumping.
pub(crate) async fn unknown_target_is_refused(instance: &Instance) -> Outcome {
    let known = |error: &jumpstarter_driver_core::Error| {
        [ErrorKind::InvalidArgument, ErrorKind::NotFound].contains(&error.kind())
    };
    let target = || Some("no-such-target".to_owned());
    instance.doing("flashing an unknown target");
    match instance.flasher().flash(ImageSource::bytes(instance.options.new_image()), target()).await
    {
        Err(error) if known(&error) => {}
        Ok(()) if instance.options.any_target => return Ok(()),
        outcome => return Err(format!("flashing an unknown target is {outcome:?}")),
    }
    instance.doing("dumping an unknown target");
    match instance.flasher().dump(ImageSink::writer(tokio::io::sink()), target()).await {
        Err(error) if known(&error) => Ok(()),
        outcome => Err(format!("dumping an unknown target is {outcome:?}")),
    }
}

/// FLASHER-12: a flash that is cancelled half-way leaves the old image, and the next flash works.
pub(crate) async fn cancelled_flash_leaves_the_old_image(instance: &Instance) -> Outcome {
    flash(instance, ImageSource::bytes(instance.options.old_image()))
        .await
        .must("flashing the old image")?;
    let before = Content::of(instance)?;
    let image = Bytes::from(instance.options.new_image());
    let (reached, half) = (Arc::new(Notify::new()), image.slice(..image.len() / 2));
    let at_half = Arc::clone(&reached);
    let stalls = stream::once(async move {
        at_half.notify_one();
        std::future::pending::<io::Result<Bytes>>().await
    });
    let source =
        ImageSource::stream(stream::iter([Ok(half)]).chain(stalls), Some(image.len() as u64));
    let (flasher, target) = (instance.flasher(), instance.options.target.clone());
    let task = tokio::spawn(async move { flasher.flash(source, target).await });
    instance.doing("waiting for the flash to read half of its source");
    reached.notified().await;
    task.abort();
    ensure!(task.await.is_err_and(|error| error.is_cancelled()), "a flash ended before its source");
    if !instance.options.in_place {
        if let Some(before) = before {
            let unchanged = before.is_unchanged(instance).await;
            unchanged.map_err(|why| format!("after a cancelled flash {why}"))?;
        }
        holds(instance, &instance.options.old_image())
            .await
            .map_err(|why| format!("after a cancelled flash {why}"))?;
    }
    flash(instance, ImageSource::bytes(instance.options.new_image()))
        .await
        .must("flashing after a cancelled flash")?;
    holds(instance, &instance.options.new_image()).await
}

/// FLASHER-13: the progress of a flash never shrinks, and ends at the source's length.
pub(crate) async fn progress_grows_to_the_end(instance: &Instance) -> Outcome {
    let reported: Arc<Mutex<Vec<Progress>>> = Arc::default();
    let observer = Arc::clone(&reported);
    let source = ImageSource::bytes(compressed("zstd")).with_observer(move |progress| {
        observer.lock().unwrap_or_else(PoisonError::into_inner).push(progress)
    });
    flash(instance, source).await.must("flashing")?;
    let reported = reported.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let grows =
        reported.windows(2).all(|pair| pair[0].transferred_bytes <= pair[1].transferred_bytes);
    ensure!(grows, "the progress shrinks: {reported:?}");
    let length = compressed("zstd").len() as u64;
    let last = reported.last().map(|progress| progress.transferred_bytes);
    ensure!(last == Some(length), "the source has {length} bytes, the last progress is {last:?}");
    Ok(())
}

/// FLASHER-14: a dump to a file replaces that file with the image.
pub(crate) async fn dump_to_a_file_is_whole(instance: &Instance) -> Outcome {
    flash(instance, ImageSource::bytes(instance.options.old_image())).await.must("flashing")?;
    let folder = tempfile::tempdir().map_err(|error| format!("making a folder: {error}"))?;
    let path = folder.path().join("dumped.img");
    std::fs::write(&path, "from before").map_err(|error| format!("writing a file: {error}"))?;
    instance.doing("dumping to a file");
    let target = instance.options.target.clone();
    instance.flasher().dump(ImageSink::path(&path), target).await.must("dumping to a file")?;
    let dumped =
        std::fs::read(&path).map_err(|error| format!("reading the dumped file: {error}"))?;
    compare(&dumped, &instance.options.old_image())?;
    let entries = std::fs::read_dir(folder.path())
        .map_err(|error| format!("listing a folder: {error}"))?
        .count();
    ensure!(entries == 1, "{} files lie beside the dumped one", entries - 1);
    Ok(())
}

/// FLASHER-15: a dump whose target fails is an error, and the next dump works.
pub(crate) async fn failing_dump_is_an_error(instance: &Instance) -> Outcome {
    flash(instance, ImageSource::bytes(instance.options.old_image())).await.must("flashing")?;
    instance.doing("dumping to a target that fails");
    let target = instance.options.target.clone();
    let outcome = instance.flasher().dump(ImageSink::writer(Broken), target).await;
    ensure!(outcome.is_err(), "a dump to a target that fails succeeded");
    holds(instance, &instance.options.old_image()).await
}

/// FLASHER-16: a dump that is cancelled leaves the flasher usable and the image as it was.
pub(crate) async fn cancelled_dump_can_be_repeated(instance: &Instance) -> Outcome {
    flash(instance, ImageSource::bytes(instance.options.old_image())).await.must("flashing")?;
    let reached = Arc::new(Notify::new());
    let (sink, flasher) = (ImageSink::writer(Stuck(Arc::clone(&reached))), instance.flasher());
    let target = instance.options.target.clone();
    let task = tokio::spawn(async move { flasher.dump(sink, target).await });
    instance.doing("waiting for the dump to write");
    reached.notified().await;
    task.abort();
    ensure!(task.await.is_err_and(|error| error.is_cancelled()), "a dump to a stuck target ended");
    holds(instance, &instance.options.old_image()).await?;
    flash(instance, ImageSource::bytes(instance.options.new_image()))
        .await
        .must("flashing after a cancelled dump")
}

/// FLASHER-17: of flashes at once, each succeeds or is refused, and what is there afterwards is one
/// of them whole.
pub(crate) async fn concurrent_flashes_do_not_mix(instance: &Instance) -> Outcome {
    instance.doing("flashing two images at once");
    let both = tokio::join!(
        flash(instance, ImageSource::bytes(instance.options.old_image())),
        flash(instance, ImageSource::bytes(instance.options.new_image())),
    );
    ensure!(both.0.is_ok() || both.1.is_ok(), "of two flashes at once both failed: {both:?}");
    let found = dump(instance).await?;
    let is = |image: Vec<u8>| found.starts_with(&image);
    let expected = (both.0.is_ok() && is(instance.options.old_image()))
        || (both.1.is_ok() && is(instance.options.new_image()));
    ensure!(expected, "after two flashes at once ({both:?}) neither image is there");
    Ok(())
}

/// FLASHER-18: a flash that is cancelled after the end of its source leaves the old image or the
/// new one whole, and writes nothing later.
pub(crate) async fn late_cancel_is_heeded(instance: &Instance) -> Outcome {
    let (old, new) = (instance.options.old_image(), instance.options.new_image());
    for polls in [0, 1, 3, 10] {
        flash(instance, ImageSource::bytes(old.clone())).await.must("flashing the old image")?;
        let ended = Arc::new(Notify::new());
        let at_end = Arc::clone(&ended);
        let pieces: Vec<_> = new.chunks(64 * 1024).map(Bytes::copy_from_slice).collect();
        let end = stream::poll_fn(move |_| {
            at_end.notify_one();
            Poll::Ready(None)
        });
        let source =
            ImageSource::stream(stream::iter(pieces).map(Ok).chain(end), Some(new.len() as u64));
        let (flasher, target) = (instance.flasher(), instance.options.target.clone());
        let task = tokio::spawn(async move { flasher.flash(source, target).await });
        instance.doing("waiting for the flash to read its source to the end");
        ended.notified().await;
        for _ in 0..polls {
            tokio::task::yield_now().await;
        }
        task.abort();
        let is_flashed = match task.await {
            Ok(outcome) => outcome.must("flashing").map(|()| true)?,
            Err(error) if error.is_cancelled() => false,
            Err(error) => return Err(format!("the flash panicked: {error}")),
        };
        let found = dump(instance).await?;
        if is_flashed || !instance.options.in_place {
            let is_whole = found.starts_with(&new) || (!is_flashed && found.starts_with(&old));
            ensure!(is_whole, "after a flash that was cancelled at its end neither image is there");
        }
        for _ in 0..4 {
            tokio::time::sleep(LATE / 4).await;
            ensure!(dump(instance).await? == found, "a flash that was cancelled writes later");
        }
    }
    Ok(())
}

/// FLASHER-19: an image is dumped to its end, however many pieces it has.
pub(crate) async fn every_piece_comes_back(instance: &Instance) -> Outcome {
    flash(instance, ImageSource::bytes(instance.options.new_image())).await.must("flashing")?;
    let (found, image) = (dump(instance).await?, instance.options.new_image());
    ensure!(
        found.len() >= image.len(),
        "{} bytes were dumped of an image of {}",
        found.len(),
        image.len()
    );
    Ok(())
}

/// FLASHER-20: where an image is zero, the old image does not show.
pub(crate) async fn zeros_replace_the_old_image(instance: &Instance) -> Outcome {
    flash(instance, ImageSource::bytes(instance.options.old_image())).await.must("flashing")?;
    let image = instance.options.new_image();
    flash(instance, ImageSource::bytes(image.clone())).await.must("flashing over an image")?;
    let found = dump(instance).await?;
    let shown = found.iter().zip(&image).position(|(found, wanted)| *wanted == 0 && *found != 0);
    ensure!(shown.is_none(), "the image is zero at byte {shown:?}, and the old one shows there");
    Ok(())
}

/// FLASHER-21: an unknown target is refused before the image is read, and the error names the
/// targets that are listed.
pub(crate) async fn unknown_target_names_the_listed_ones(instance: &Instance) -> Outcome {
    let targets = targets(instance).await?;
    if targets.accepts_others {
        return Ok(());
    }
    let (source, is_read) = watched(instance.options.new_image());
    // One that takes it breaks another duty.
    let Err(error) = flash_to(instance, source, Some("no-such-target")).await else {
        return Ok(());
    };
    ensure!(!is_read.load(Ordering::Relaxed), "the image for an unknown target is read");
    let text = format!("{} {}", error.report(), error.hint().unwrap_or_default());
    // Of many targets an error names some.
    let missing = targets.names().take(10).find(|name| !text.contains(name));
    ensure!(missing.is_none(), "the error of an unknown target does not name {missing:?}: {text}");
    Ok(())
}

/// FLASHER-22: every target that is listed takes an image, and each keeps its own. An image that is
/// larger than the listed capacity may be refused, and so may one that the driver has read and
/// found to be in another format than the target needs (`InvalidArgument`).
pub(crate) async fn listed_targets_keep_their_images(instance: &Instance) -> Outcome {
    flash(instance, ImageSource::bytes(instance.options.new_image())).await.must("flashing")?;
    let images = [instance.options.old_image(), instance.options.new_image()];
    let targets = targets(instance).await?;
    let mut flashed = Vec::new();
    for (target, image) in targets.known.iter().zip(images.iter().cycle()) {
        if target.capacity_bytes.is_some_and(|capacity| image.len() as u64 > capacity) {
            continue;
        }
        let (source, is_read) = watched(image.clone());
        match flash_to(instance, source, Some(&target.name)).await {
            Ok(()) => flashed.push((target, image)),
            Err(error)
                if error.kind() == ErrorKind::InvalidArgument
                    && is_read.load(Ordering::Relaxed) => {}
            Err(error) => {
                return Err(format!(
                    "flashing the listed target `{}` failed: {error:?}",
                    target.name
                ));
            }
        }
    }
    for (target, image) in flashed {
        compare(&dump_from(instance, Some(&target.name)).await?, image)
            .map_err(|why| format!("of the listed target `{}`: {why}", target.name))?;
    }
    Ok(())
}

/// FLASHER-23: a flasher whose list says that it takes other targets takes a new one, and keeps its
/// image.
pub(crate) async fn other_targets_are_taken(instance: &Instance) -> Outcome {
    if !targets(instance).await?.accepts_others {
        return Ok(());
    }
    let (image, name) = (instance.options.new_image(), Some("another-target"));
    flash_to(instance, ImageSource::bytes(image.clone()), name)
        .await
        .must("flashing a target that is not listed")?;
    compare(&dump_from(instance, name).await?, &image)
}

/// An image, and whether any of it was read.
fn watched(image: Vec<u8>) -> (ImageSource, Arc<AtomicBool>) {
    let is_read = Arc::new(AtomicBool::new(false));
    let seen = is_read.clone();
    let source = stream::once(async move {
        seen.store(true, Ordering::Relaxed);
        Ok(Bytes::from(image))
    });
    (ImageSource::stream(source.boxed(), None), is_read)
}

/// The targets that a flasher lists.
async fn targets(instance: &Instance) -> std::result::Result<FlashTargets, String> {
    instance.doing("listing the targets");
    let targets = FlashTargets::of(&*instance.flasher()).await.must("listing the targets")?;
    Ok(targets.unwrap_or_default())
}

async fn flash(instance: &Instance, source: ImageSource) -> Result<()> {
    flash_to(instance, source, instance.options.target.as_deref()).await
}

async fn flash_to(instance: &Instance, source: ImageSource, target: Option<&str>) -> Result<()> {
    instance.doing("flashing");
    instance.flasher().flash(source, target.map(str::to_owned)).await
}

fn compressed(tool: &str) -> Bytes {
    Bytes::from_static(image::new_compressed(tool).unwrap_or_default())
}

async fn decompressed(instance: &Instance, tool: &str) -> Outcome {
    flash(instance, ImageSource::bytes(compressed(tool)))
        .await
        .must(&format!("flashing a {tool} image"))?;
    match instance.options.as_is {
        true => holds(instance, &compressed(tool)).await,
        false => holds(instance, &image::new()).await,
    }
}

/// Flashes an image that must be refused over the old image, which must stay. Without `kinds`, any
/// kind of error will do.
async fn refused(
    instance: &Instance,
    source: ImageSource,
    what: &str,
    kinds: &[ErrorKind],
) -> Outcome {
    flash(instance, ImageSource::bytes(instance.options.old_image()))
        .await
        .must("flashing the old image")?;
    let before = Content::of(instance)?;
    match flash(instance, source).await {
        Ok(()) => return Err(format!("flashing {what} succeeded")),
        Err(error) if kinds.is_empty() || kinds.contains(&error.kind()) => {}
        Err(error) => return Err(format!("flashing {what} is not {kinds:?} but {error:?}")),
    }
    if instance.options.in_place {
        return Ok(());
    }
    if let Some(before) = before {
        before.is_unchanged(instance).await.map_err(|why| format!("after {what} {why}"))?;
    }
    holds(instance, &instance.options.old_image())
        .await
        .map_err(|why| format!("after {what} {why}"))
}

async fn holds(instance: &Instance, image: &[u8]) -> Outcome {
    compare(&dump(instance).await?, image)
}

/// A device is longer than its image; the rest is not compared.
pub(super) fn compare(found: &[u8], image: &[u8]) -> Outcome {
    if found.starts_with(image) {
        return Ok(());
    }
    let same = found.iter().zip(image).take_while(|(found, wanted)| found == wanted).count();
    Err(format!(
        "{} bytes were dumped, of {} they agree in the first {same}",
        found.len(),
        image.len()
    ))
}

async fn dump(instance: &Instance) -> std::result::Result<Vec<u8>, String> {
    dump_from(instance, instance.options.target.as_deref()).await
}

async fn dump_from(
    instance: &Instance,
    target: Option<&str>,
) -> std::result::Result<Vec<u8>, String> {
    instance.doing("dumping");
    let dumped = Collected::default();
    let target = target.map(str::to_owned);
    instance.flasher().dump(ImageSink::writer(dumped.clone()), target).await.must("dumping")?;
    let mut bytes = dumped.0.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut *bytes))
}
