//! Keeps an image in the cache while it is fetched.

use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use jumpstarter_files::{Room, UnnamedFile};
use tokio::sync::{mpsc, oneshot};
use twox_hash::XxHash3_64;

use super::Cache;
use super::entry::{PIECE, ending};
use crate::decode::Chunks;

/// The pieces that wait for the disk.
const QUEUE: usize = 4;

enum Part {
    Bytes(Bytes),
    /// The image is complete, and its digest correct.
    End,
}

/// Passes `chunks` on, and keeps a copy once they have come to their end. An image that cannot be
/// kept is passed on all the same.
pub(super) fn keep(cache: Cache, sha256: String, length: Option<u64>, chunks: Chunks) -> Chunks {
    if !length.is_none_or(|length| cache.holds(length)) {
        tracing::info!(%sha256, "the image is larger than the cache");
        return chunks;
    }
    let (parts, receiver) = mpsc::channel(QUEUE);
    let (finished, is_finished) = oneshot::channel::<()>();
    let writing = std::thread::Builder::new().name("image-cache".to_owned()).spawn(move || {
        let _finished = finished;
        if let Err(error) = write(&cache, &sha256, length, receiver) {
            tracing::warn!(folder = %cache.folder.display(), %error, "the image is not kept");
        }
    });
    if let Err(error) = writing {
        tracing::warn!(%error, "the image is not kept");
        return chunks;
    }
    let keeping = Keeping { chunks, parts: Some(parts), is_finished };
    stream::unfold(keeping, Keeping::next).boxed()
}

struct Keeping {
    chunks: Chunks,
    /// `None` once the writer has given up.
    parts: Option<mpsc::Sender<Part>>,
    is_finished: oneshot::Receiver<()>,
}

impl Keeping {
    async fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        let chunk = self.chunks.next().await;
        let part = match &chunk {
            Some(Ok(chunk)) => Some(Part::Bytes(chunk.clone())),
            Some(Err(_)) => None,
            None => Some(Part::End),
        };
        if let Some(parts) = self.parts.take()
            && let Some(part) = part
            && parts.send(part).await.is_ok()
        {
            self.parts = Some(parts);
        }
        match chunk {
            Some(chunk) => Some((chunk, self)),
            None => {
                // The next flash may follow at once, or the program end.
                drop(self.parts);
                drop(self.is_finished.await);
                None
            }
        }
    }
}

/// Writes what comes; without its end, nothing is left.
fn write(
    cache: &Cache,
    sha256: &str,
    length: Option<u64>,
    mut parts: mpsc::Receiver<Part>,
) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(&cache.folder)?;
    let unnamed = UnnamedFile::create(&cache.folder)?;
    cache.make_room(length.unwrap_or(0))?;
    let (mut file, mut room) = (unnamed.file(), Room::default());
    let (mut count, mut checksums, mut piece) = (0_u64, Vec::new(), Vec::with_capacity(PIECE));
    loop {
        match parts.blocking_recv() {
            // The download failed, or is not wanted any more.
            None => return Ok(()),
            Some(Part::Bytes(mut bytes)) => {
                count += bytes.len() as u64;
                if !cache.holds(count) {
                    return Err(io::Error::other("it is larger than the cache"));
                }
                while !bytes.is_empty() {
                    let now = bytes.split_to(bytes.len().min(PIECE - piece.len()));
                    piece.extend_from_slice(&now);
                    if piece.len() == PIECE {
                        checksums.push(XxHash3_64::oneshot(&piece));
                        room.take(file, PIECE as u64)?;
                        file.write_all(&piece)?;
                        piece.clear();
                    }
                }
            }
            Some(Part::End) => {
                if !piece.is_empty() {
                    checksums.push(XxHash3_64::oneshot(&piece));
                    file.write_all(&piece)?;
                }
                file.write_all(&ending(count, &checksums))?;
                match unnamed.link(&cache.path(sha256)) {
                    // Another flash of the same image was faster.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    linked => linked?,
                }
                return cache.make_room(0);
            }
        }
    }
}
