//! A bounded cache of images, by their SHA-256: `JMP_IMAGE_CACHE` names its folder.
//!
//! An entry is a file that is named after the digest: the image, a checksum of each MiB of it, and
//! a footer. It gets its name when the image is complete and its digest correct. The checksums are
//! compared while it is read, so that a damaged entry delivers nothing wrong; what is missing then
//! is fetched.

mod entry;
mod keep;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};
use jumpstarter_driver_core::prelude::ByteSize;
use jumpstarter_driver_core::{Error, Result, ResultExt, blocking};

use self::entry::{Entry, FOOTER};
use crate::answer::Image;
use crate::check::{Expected, checked};
use crate::decode::Chunks;
use crate::settings::Settings;

/// The variable with the folder.
const FOLDER: &str = "JMP_IMAGE_CACHE";
/// The variable with the size of all entries.
const SIZE: &str = "JMP_IMAGE_CACHE_SIZE";
const DEFAULT_SIZE: u64 = 20 << 30;

/// A folder of images, and the bytes that they may take.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    limit: u64,
}

/// The download of an image.
pub(crate) type Fetch = BoxFuture<'static, Result<Image>>;

/// The expected image: from the cache, if it is there, else fetched and kept.
pub(crate) async fn cached(settings: Settings, expected: Expected, fetch: Fetch) -> Result<Image> {
    let cache = settings.cache.filter(|_| is_name(expected.sha256.as_bytes()));
    let Some(cache) = cache else {
        let image = fetch.await?;
        return Ok(Image { chunks: checked(image.chunks, expected), ..image });
    };
    let sha256 = expected.sha256.clone();
    let (looking, wanted) = (cache.clone(), sha256.clone());
    match blocking(move || Ok(looking.open(&wanted))).await? {
        Some(entry) => {
            tracing::info!(%sha256, "the image comes from the cache");
            let length = Some(entry.length());
            let kept = Kept {
                entry: Some(entry),
                fetch: Some(fetch),
                fetched: stream::empty().boxed(),
                delivered: 0,
                fetched_again: settings.fetched_again,
                path: cache.path(&sha256),
            };
            let chunks = stream::unfold(Some(kept), Kept::next).boxed();
            // An entry of another image goes, too.
            let wrong = cache.path(&sha256);
            let chunks = checked(chunks, expected).inspect_err(move |_| remove(&wrong)).boxed();
            Ok(Image { chunks, length })
        }
        None => {
            let image = fetch.await?;
            let chunks = checked(image.chunks, expected);
            Ok(Image { chunks: keep::keep(cache, sha256, image.length, chunks), ..image })
        }
    }
}

impl Cache {
    /// The one of this environment, if it has one.
    pub(crate) fn new(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let Some(folder) = variable(FOLDER).filter(|folder| !folder.is_empty()) else {
            return Ok(None);
        };
        let folder = PathBuf::from(folder);
        if !folder.is_absolute() {
            let message = format!("{FOLDER}: {} is not absolute", folder.display());
            return Err(Error::invalid_argument(message).with_hint("write it from / on"));
        }
        let limit = match variable(SIZE).filter(|size| !size.is_empty()) {
            Some(size) => size.parse::<ByteSize>().context(SIZE)?.as_bytes(),
            None => DEFAULT_SIZE,
        };
        Ok(Some(Self { folder, limit }))
    }

    fn path(&self, sha256: &str) -> PathBuf {
        self.folder.join(sha256)
    }

    /// The entry of this digest, which counts as used now. A damaged one is removed.
    fn open(&self, sha256: &str) -> Option<Entry> {
        let path = self.path(sha256);
        match Entry::open(&path, self.limit) {
            Ok(entry) => {
                entry.touch(SystemTime::now());
                Some(entry)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "an image in the cache is damaged");
                remove(&path);
                None
            }
        }
    }

    /// Removes the entries that were not used for the longest time, until `bytes` more fit.
    fn make_room(&self, bytes: u64) -> std::io::Result<()> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_entry = is_name(name.as_encoded_bytes());
            // Another process may remove it meanwhile.
            if let Ok(found) = entry.metadata()
                && found.is_file()
                && is_entry
            {
                entries.push((found.modified()?, found.len(), entry.path()));
            }
        }
        entries.sort();
        let mut total = entries.iter().map(|(_, length, _)| length).sum::<u64>();
        for (_, length, path) in entries {
            if total.saturating_add(bytes) <= self.limit {
                break;
            }
            remove(&path);
            total -= length;
        }
        Ok(())
    }

    /// Whether an image of this length can be kept at all.
    fn holds(&self, length: u64) -> bool {
        length.saturating_add(entry::table_length(length) + FOOTER) <= self.limit
    }
}

/// Whether this is the name of an entry: a SHA-256 in lower case.
fn is_name(name: &[u8]) -> bool {
    name.len() == 64 && name.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "an image stays in the cache");
        }
        _ => {}
    }
}

/// An entry that is read, and the download that takes over if it is damaged.
struct Kept {
    entry: Option<Entry>,
    fetch: Option<Fetch>,
    fetched: Chunks,
    delivered: u64,
    fetched_again: Arc<AtomicU64>,
    path: PathBuf,
}

impl Kept {
    async fn next(kept: Option<Self>) -> Option<(std::io::Result<bytes::Bytes>, Option<Self>)> {
        let mut kept = kept?;
        if let Some(entry) = &mut kept.entry {
            match entry.next().await {
                Ok(Some(chunk)) => {
                    kept.delivered += chunk.len() as u64;
                    return Some((Ok(chunk), Some(kept)));
                }
                Ok(None) => return None,
                Err(error) => {
                    let path = kept.path.display();
                    tracing::warn!(%path, %error, "an image in the cache is damaged: it is fetched");
                    remove(&kept.path);
                    kept.entry = None;
                    match kept.fetch_rest().await {
                        Ok(chunks) => kept.fetched = chunks,
                        Err(error) => return Some((Err(error.into()), None)),
                    }
                }
            }
        }
        let chunk = kept.fetched.next().await?;
        Some((chunk, Some(kept)))
    }

    /// Fetches the image, without what was delivered already.
    async fn fetch_rest(&mut self) -> Result<Chunks> {
        let fetch = self.fetch.take();
        let fetch = fetch.ok_or_else(|| Error::internal("the image is fetched already"))?;
        let mut chunks = fetch.await?.chunks;
        let mut left = self.delivered;
        while left > 0 {
            // The digest shows that it is too short.
            let Some(mut chunk) = chunks.next().await.transpose()? else { break };
            let known = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
            left -= known as u64;
            self.fetched_again.fetch_add(known as u64, Ordering::Relaxed);
            let rest = chunk.split_off(known);
            if !rest.is_empty() {
                chunks = stream::iter([Ok(rest)]).chain(chunks).boxed();
            }
        }
        Ok(chunks)
    }
}

#[cfg(test)]
mod tests;
