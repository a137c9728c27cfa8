//! Cases of `Storage`.

use std::io;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use jumpstarter_driver_core::storage::{read_file, write_file};
use jumpstarter_driver_core::{ErrorKind, FileMode, ImageSink, ImageSource, Storage};

use super::flasher::{Collected, compare};
use crate::case::{MustSucceed, Outcome, ensure};
use crate::instance::Instance;

const FILE: &str = "suite-file";
const INNER: &str = "suite/file";

/// STORAGE-1: what is written is read, from the start and from a position.
pub(crate) async fn written_file_comes_back(instance: &Instance) -> Outcome {
    let storage = instance.storage();
    for content in [instance.options.old_image(), instance.options.new_image(), Vec::new()] {
        write(&*storage, &content).await?;
        holds(&storage, &content).await?;
        let stat = storage.stat(FILE.to_owned()).await.must("`stat`")?;
        ensure!(stat.content_length == content.len() as u64, "`stat` says {stat:?}");
        ensure!(stat.mode.is_file && !stat.mode.is_dir, "`stat` says {stat:?}");
    }
    let content = instance.options.new_image();
    write(&*storage, &content).await?;
    let file = storage.open(FILE.to_owned(), FileMode::Read).await.must("`open`")?;
    let position = storage.file_seek(file.clone(), -3, Some(2)).await.must("`file_seek`")?;
    ensure!(position == content.len() as u64 - 3, "`file_seek` returned {position}");
    let collected = Collected::default();
    let sink = ImageSink::writer(collected.clone());
    storage.file_read(file.clone(), sink).await.must("`file_read`")?;
    let read = collected.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    compare(&read, &content[content.len() - 3..])?;
    storage.file_close(file).await.must("`file_close`")
}

/// STORAGE-2: a file whose source fails keeps its old content.
pub(crate) async fn failed_write_keeps_the_old_file(instance: &Instance) -> Outcome {
    let storage = instance.storage();
    let content = instance.options.old_image();
    write(&*storage, &content).await?;
    let failure = io::Error::new(io::ErrorKind::ConnectionReset, "the source failed, as planned");
    let half = Bytes::from(instance.options.new_image());
    let source = ImageSource::stream(stream::iter([Ok(half), Err(failure)]), None);
    let written = write_file(&*storage, FILE, source).await;
    ensure!(written.is_err(), "a write whose source failed succeeded");
    holds(&storage, &content).await
}

/// STORAGE-3: no path leads out of the storage.
pub(crate) async fn paths_stay_inside(instance: &Instance) -> Outcome {
    let storage = instance.storage();
    for path in ["..", "../", "../suite", "/../suite", "a/../../suite", "./.././suite"] {
        let path = || path.to_owned();
        let source = ImageSource::bytes(&b"out"[..]);
        for (doing, result) in [
            ("stat", storage.stat(path()).await.map(drop)),
            ("open", storage.open(path(), FileMode::Read).await.map(drop)),
            ("write", write_file(&*storage, &path(), source).await),
            ("create_dir", storage.create_dir(path() + "/").await),
            ("remove_all", storage.remove_all(path()).await),
            ("copy", storage.copy(path(), "suite/copy".to_owned()).await),
            ("list", all(storage.list(path()).await).await.map(drop)),
        ] {
            let kind = result.err().map(|error| error.kind());
            let expected = Some(ErrorKind::PermissionDenied);
            ensure!(kind == expected, "`{doing}` of {} is {kind:?}", path());
        }
    }
    Ok(())
}

/// STORAGE-4: folders are made, listed and removed as in Python.
pub(crate) async fn folders_are_listed(instance: &Instance) -> Outcome {
    let storage = instance.storage();
    storage.create_dir("suite/a/b/".to_owned()).await.must("`create_dir`")?;
    storage.create_dir("suite/a/b/".to_owned()).await.must("`create_dir` again")?;
    let source = ImageSource::bytes(&b"x"[..]);
    write_file(&*storage, INNER, source).await.must("writing a file")?;
    let list = all(storage.list("suite/".to_owned()).await).await.must("`list`")?;
    ensure!(list == ["suite/", "suite/a/", INNER], "`list` says {list:?}");
    let scan = all(storage.scan("suite/".to_owned()).await).await.must("`scan`")?;
    let expected = ["suite/", "suite/a/", "suite/a/b/", INNER];
    ensure!(scan == expected, "`scan` says {scan:?}");
    storage.remove_all("suite/".to_owned()).await.must("`remove_all`")?;
    storage.remove_all("suite/".to_owned()).await.must("`remove_all` again")?;
    storage.delete(INNER.to_owned()).await.must("`delete` of a missing file")?;
    let exists = storage.exists("suite/".to_owned()).await.must("`exists`")?;
    ensure!(!exists, "a removed folder exists");
    let missing = storage.stat(INNER.to_owned()).await.map_err(|error| error.kind());
    ensure!(missing == Err(ErrorKind::NotFound), "`stat` of a missing file: {missing:?}");
    Ok(())
}

/// STORAGE-5: a handle that `open` did not return is `NotFound`; a closed one is closed.
pub(crate) async fn handles_are_known(instance: &Instance) -> Outcome {
    let storage = instance.storage();
    let unknown = storage.file_tell("no-handle".to_owned()).await;
    let kind = unknown.err().map(|error| error.kind());
    ensure!(kind == Some(ErrorKind::NotFound), "an unknown handle is {kind:?}");
    write(&*storage, b"x").await?;
    let file = storage.open(FILE.to_owned(), FileMode::Read).await.must("`open`")?;
    let closed = storage.file_closed(file.clone()).await.must("`file_closed`")?;
    ensure!(!closed, "an open file is closed");
    storage.file_close(file.clone()).await.must("`file_close`")?;
    storage.file_close(file.clone()).await.must("`file_close` again")?;
    let closed = storage.file_closed(file).await.must("`file_closed`")?;
    ensure!(closed, "a closed file is open");
    Ok(())
}

async fn write(storage: &dyn Storage, content: &[u8]) -> Outcome {
    let source = ImageSource::bytes(content.to_vec());
    write_file(storage, FILE, source).await.must("writing a file")
}

async fn holds(storage: &Arc<dyn Storage>, content: &[u8]) -> Outcome {
    let collected = Collected::default();
    let sink = ImageSink::writer(collected.clone());
    read_file(&**storage, FILE, sink).await.must("reading a file")?;
    compare(&collected.0.lock().unwrap_or_else(PoisonError::into_inner), content)
}

/// The items of a listing, sorted.
async fn all(
    listing: jumpstarter_driver_core::Result<jumpstarter_driver_core::ValueStream<String>>,
) -> jumpstarter_driver_core::Result<Vec<String>> {
    let mut items: Vec<String> = listing?.boxed().try_collect().await?;
    items.sort();
    Ok(items)
}
