//! Decodes images on their way, on another thread than the one that receives.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use jumpstarter_codec::decompress;
use jumpstarter_driver_core::Error;
use jumpstarter_driver_core::image::Encoding;
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

/// Batches that wait for the decoder.
const BATCHES: usize = 2;
/// What a batch holds at least, where so much has arrived: waking a thread for each piece would
/// take as long as decoding it.
const BATCH_BYTES: usize = 256 * 1024;
/// Decoded pieces that wait: enough to even out the pace.
const DECODED: usize = 4;

/// The pieces of an image, as they come.
#[cfg(feature = "http")]
pub(crate) type Chunks = BoxStream<'static, io::Result<Bytes>>;

/// Pieces that arrived together; an error is the last.
type Batch = Vec<io::Result<Bytes>>;

/// What `encoded` says, decoded; all members of a file that has several. Cut or damaged input is an
/// error.
///
/// A thread decodes. It ends with the stream, or when that is dropped.
pub fn decode(
    encoding: Encoding,
    encoded: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> BoxStream<'static, io::Result<Bytes>> {
    let (input, batches) = mpsc::channel(BATCHES);
    let (output, decoded) = mpsc::channel(DECODED);
    let work = move || run(encoding, batches, &output);
    if let Err(error) = std::thread::Builder::new().name("image-decode".to_owned()).spawn(work) {
        let message = "starting a thread that decodes the image";
        let error = Error::resource_exhausted(message).with_source(error);
        return stream::iter([Err(error.into())]).boxed();
    }
    Decoding { feed: Some((encoded.boxed(), PollSender::new(input))), decoded: Some(decoded) }
        .boxed()
}

/// Both ends of the thread.
struct Decoding {
    /// What is still to be decoded, until its end.
    feed: Option<(BoxStream<'static, io::Result<Bytes>>, PollSender<Batch>)>,
    /// What was decoded; `None` in it is the end. If it ends without, the thread has died.
    decoded: Option<mpsc::Receiver<io::Result<Option<Bytes>>>>,
}

impl Decoding {
    /// Passes on what has arrived, as far as there is room.
    fn feed(&mut self, cx: &mut Context<'_>) {
        while let Some((encoded, input)) = &mut self.feed {
            // An error: the decoder has ended, and says why.
            let mut more = match input.poll_reserve(cx) {
                Poll::Pending => return,
                Poll::Ready(reserved) => reserved.is_ok(),
            };
            let (mut batch, mut bytes) = (Batch::new(), 0);
            while more && bytes < BATCH_BYTES {
                match encoded.poll_next_unpin(cx) {
                    Poll::Pending if batch.is_empty() => return,
                    Poll::Pending => break,
                    Poll::Ready(None) => more = false,
                    Poll::Ready(Some(piece)) => {
                        bytes += piece.as_ref().map_or(0, Bytes::len);
                        more = piece.is_ok();
                        batch.push(piece);
                    }
                }
            }
            if !batch.is_empty() {
                more &= input.send_item(batch).is_ok();
            }
            if !more {
                self.feed = None;
            }
        }
    }
}

impl Stream for Decoding {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.feed(cx);
        let Some(decoded) = &mut self.decoded else { return Poll::Ready(None) };
        let last = match ready!(decoded.poll_recv(cx)) {
            Some(Ok(Some(piece))) => return Poll::Ready(Some(Ok(piece))),
            Some(Ok(None)) => None,
            Some(Err(error)) => Some(Err(error)),
            None => Some(Err(Error::internal("the thread that decodes the image panicked").into())),
        };
        *self = Self { feed: None, decoded: None };
        Poll::Ready(last)
    }
}

/// The thread's work: until the end, a failure, or until nobody wants more.
fn run(
    encoding: Encoding,
    mut batches: mpsc::Receiver<Batch>,
    output: &mpsc::Sender<io::Result<Option<Bytes>>>,
) {
    let mut batch = Batch::new().into_iter();
    let next = || loop {
        if let Some(piece) = batch.next() {
            return piece.map(Some).map_err(Error::from);
        }
        match batches.blocking_recv() {
            Some(more) => batch = more.into_iter(),
            None => return Ok(None),
        }
    };
    let give = |piece| output.blocking_send(Ok(Some(piece))).is_ok();
    let hint = "check that the file is complete and is what its encoding says";
    let last =
        decompress(encoding.into(), hint, next, give).map(|()| None).map_err(io::Error::from);
    // An error here is the receiver's leaving; it knows why.
    drop(output.blocking_send(last));
}

#[cfg(test)]
mod tests {
    use jumpstarter_driver_core::ErrorKind;

    use super::*;
    use crate::encode;
    use futures_util::TryStreamExt;
    use tokio::io::AsyncWriteExt;

    async fn encoded(encoding: Encoding, data: &[u8]) -> Vec<u8> {
        let (near, mut far) = tokio::io::duplex(1024);
        let mut writer = encode(encoding, Box::pin(near));
        let write = async {
            writer.write_all(data).await.unwrap();
            writer.shutdown().await.unwrap();
            drop(writer);
        };
        let mut out = Vec::new();
        let ((), read) =
            tokio::join!(write, tokio::io::AsyncReadExt::read_to_end(&mut far, &mut out));
        read.unwrap();
        out
    }

    async fn decoded(encoding: Encoding, data: Vec<u8>) -> std::io::Result<Vec<u8>> {
        let pieces: Vec<_> =
            data.chunks(1000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let chunks: Vec<Bytes> =
            decode(encoding, futures_util::stream::iter(pieces)).try_collect().await?;
        Ok(chunks.concat())
    }

    #[tokio::test]
    async fn each_encoding_comes_back_also_in_several_members() {
        let data: Vec<u8> = (0..300_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        for encoding in Encoding::ALL {
            let mut file = encoded(encoding, &data).await;
            assert!(file.len() < data.len(), "{encoding:?} does not compress");
            let second = file.clone();
            file.extend(second);
            assert!(
                decoded(encoding, file).await.unwrap() == [&data[..], &data[..]].concat(),
                "{encoding:?}"
            );
        }
    }

    #[tokio::test]
    async fn what_takes_too_much_memory_is_refused() {
        // A frame with a window of 2 GiB that holds one byte.
        let frame = b"\x28\xb5\x2f\xfd\x00\xa8\x09\x00\x00x".to_vec();
        let error = Error::from(decoded(Encoding::Zstd, frame).await.unwrap_err());
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
        assert!(error.report().contains("JMP_DECODER_MEMORY=2048MiB"), "{error:?}");
    }

    #[tokio::test]
    async fn cut_and_damaged_files_are_data_loss() {
        let data: Vec<u8> =
            (0..100_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for encoding in Encoding::ALL {
            let whole = encoded(encoding, &data).await;
            let cut = whole[..whole.len() / 2].to_vec();
            let error = Error::from(decoded(encoding, cut).await.unwrap_err());
            assert_eq!(error.kind(), ErrorKind::DataLoss, "{encoding:?}: {error:?}");
            let error = Error::from(
                decoded(encoding, b"this was never compressed".to_vec()).await.unwrap_err(),
            );
            assert_eq!(error.kind(), ErrorKind::DataLoss, "{encoding:?}: {error:?}");
        }
    }
}
