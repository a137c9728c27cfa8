//! Cases of `StorageMux`.

use std::io;
use std::sync::PoisonError;

use bytes::Bytes;
use futures_util::stream;
use jumpstarter_driver_core::{ImageSink, ImageSource};

use super::flasher::{Collected, compare};
use crate::case::{MustSucceed, Outcome, ensure};
use crate::instance::Instance;

/// MUX-1: each switch succeeds again when the medium is there already.
pub(crate) async fn switches_are_idempotent(instance: &Instance) -> Outcome {
    let mux = instance.storage_mux();
    for _ in 0..2 {
        mux.off().await.must("`off`")?;
        mux.off().await.must("`off` again")?;
        mux.host().await.must("`host`")?;
        mux.host().await.must("`host` again")?;
        mux.dut().await.must("`dut`")?;
        mux.dut().await.must("`dut` again")?;
    }
    Ok(())
}

/// MUX-2: what the host writes is what it reads, also after the device had the medium.
pub(crate) async fn written_image_comes_back(instance: &Instance) -> Outcome {
    let mux = instance.storage_mux();
    for image in [instance.options.old_image(), instance.options.new_image()] {
        mux.host().await.must("`host`")?;
        instance.doing("writing");
        mux.write(ImageSource::bytes(image.clone())).await.must("writing")?;
        holds(instance, &image).await?;
        mux.dut().await.must("`dut`")?;
        mux.host().await.must("`host` after `dut`")?;
        holds(instance, &image).await?;
    }
    mux.off().await.must("`off`")
}

/// MUX-3: a write whose source fails is an error, and the next write works.
pub(crate) async fn failed_write_leaves_it_usable(instance: &Instance) -> Outcome {
    let mux = instance.storage_mux();
    mux.host().await.must("`host`")?;
    let image = Bytes::from(instance.options.new_image());
    let failure = io::Error::new(io::ErrorKind::ConnectionReset, "the source failed, as planned");
    let half = image.slice(..image.len() / 2);
    instance.doing("writing from a source that fails half-way");
    let source = ImageSource::stream(stream::iter([Ok(half), Err(failure)]), None);
    ensure!(mux.write(source).await.is_err(), "a write whose source failed succeeded");
    mux.write(ImageSource::bytes(image.clone())).await.must("writing after a failure")?;
    holds(instance, &image).await
}

/// The medium begins with these bytes: a real one is larger than the image.
async fn holds(instance: &Instance, image: &[u8]) -> Outcome {
    instance.doing("reading");
    let collected = Collected::default();
    let target = ImageSink::writer(collected.clone());
    instance.storage_mux().read(target).await.must("reading")?;
    compare(&collected.0.lock().unwrap_or_else(PoisonError::into_inner), image)
}
