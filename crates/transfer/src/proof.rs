//! Bodies without a marked end: the trailer of a compression proves that they are complete.

use std::io;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use jumpstarter_driver_core::image::Encoding;
use jumpstarter_driver_core::{Error, ErrorKind};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::decode::{Chunks, decode};

/// Passes `chunks` on as they are, and decodes a copy: only if that comes to its end, the chunks
/// do.
///
/// Drivers may store the file compressed, so that nobody else would look.
pub(crate) fn proved(encoding: Encoding, chunks: Chunks) -> Chunks {
    let (copies, receiver) = mpsc::channel(4);
    let received =
        stream::unfold(receiver, async |mut receiver: mpsc::Receiver<io::Result<Bytes>>| {
            receiver.recv().await.map(|copy| (copy, receiver))
        });
    let mut decoded = decode(encoding, received);
    let verdict = tokio::spawn(async move {
        while let Some(piece) = decoded.next().await {
            piece?;
        }
        Ok(())
    });
    stream::unfold(Some(Proof { chunks, copies, verdict }), Proof::next).boxed()
}

struct Proof {
    chunks: Chunks,
    copies: mpsc::Sender<io::Result<Bytes>>,
    verdict: JoinHandle<io::Result<()>>,
}

impl Proof {
    async fn next(proof: Option<Self>) -> Option<(io::Result<Bytes>, Option<Self>)> {
        let mut proof = proof?;
        match proof.chunks.next().await {
            Some(Ok(chunk)) if proof.copies.send(Ok(chunk.clone())).await.is_ok() => {
                Some((Ok(chunk), Some(proof)))
            }
            Some(Err(error)) => Some((Err(error), None)),
            Some(Ok(_)) | None => {
                drop(proof.copies);
                let failed = match proof.verdict.await {
                    Ok(Ok(())) => return None,
                    Ok(Err(error)) => Error::from(error),
                    Err(error) => Error::internal("looking for the image's end").with_source(error),
                };
                let message = "the connection ended before the image did, and the server had not said how long it is";
                let failed = match failed.kind() {
                    ErrorKind::DataLoss => {
                        Error::data_loss(message).with_source(failed).with_hint("get it again")
                    }
                    _ => failed,
                };
                Some((Err(failed.into()), None))
            }
        }
    }
}
