//! Encoding and decoding of images on their way.

use std::pin::Pin;

use async_compression::tokio::{bufread, write};
use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::io::AsyncRead;
use tokio_util::io::{ReaderStream, StreamReader};

use jumpstarter_driver_core::image::{BoxWriter, Encoding};
use jumpstarter_driver_core::{Error, ErrorKind};

/// Bytes that come out of a decoder at once.
const CHUNK: usize = 256 * 1024;

/// What `encoded` says, decoded; all members of a file that has several. Cut or damaged input is an error.
pub fn decode(
    encoding: Encoding,
    encoded: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
) -> BoxStream<'static, std::io::Result<Bytes>> {
    let encoded = StreamReader::new(encoded.boxed());
    let reader: Pin<Box<dyn AsyncRead + Send>> = match encoding {
        Encoding::Gzip => {
            let mut decoder = bufread::GzipDecoder::new(encoded);
            decoder.multiple_members(true);
            Box::pin(decoder)
        }
        Encoding::Xz => {
            let mut decoder = bufread::XzDecoder::new(encoded);
            decoder.multiple_members(true);
            Box::pin(decoder)
        }
        Encoding::Bz2 => {
            let mut decoder = bufread::BzDecoder::new(encoded);
            decoder.multiple_members(true);
            Box::pin(decoder)
        }
        Encoding::Zstd => {
            let mut decoder = bufread::ZstdDecoder::new(encoded);
            decoder.multiple_members(true);
            Box::pin(decoder)
        }
    };
    ReaderStream::with_capacity(reader, CHUNK)
        .map(move |item| item.map_err(|error| damaged(encoding, error)))
        .boxed()
}

/// A writer that encodes; its shutdown writes the end of the file.
pub fn encode(encoding: Encoding, writer: BoxWriter) -> BoxWriter {
    match encoding {
        Encoding::Gzip => Box::pin(write::GzipEncoder::new(writer)),
        Encoding::Xz => Box::pin(write::XzEncoder::new(writer)),
        Encoding::Bz2 => Box::pin(write::BzEncoder::new(writer)),
        Encoding::Zstd => Box::pin(write::ZstdEncoder::new(writer)),
    }
}

/// An error of the transport keeps its kind; one of the decoder means that the data is damaged.
fn damaged(encoding: Encoding, error: std::io::Error) -> std::io::Error {
    if error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
        return error;
    }
    let what = match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "ends early",
        _ => "is damaged",
    };
    Error::new(ErrorKind::DataLoss, format!("the {} data of the image {what}", encoding.name()))
        .with_source(error)
        .with_hint("check that the file is complete and is what its encoding says")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let ((), read) = tokio::join!(write, tokio::io::AsyncReadExt::read_to_end(&mut far, &mut out));
        read.unwrap();
        out
    }

    async fn decoded(encoding: Encoding, data: Vec<u8>) -> std::io::Result<Vec<u8>> {
        let pieces: Vec<_> = data.chunks(1000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let chunks: Vec<Bytes> = decode(encoding, futures_util::stream::iter(pieces)).try_collect().await?;
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
    async fn cut_and_damaged_files_are_data_loss() {
        let data: Vec<u8> =
            (0..100_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for encoding in Encoding::ALL {
            let whole = encoded(encoding, &data).await;
            let cut = whole[..whole.len() / 2].to_vec();
            let error = Error::from(decoded(encoding, cut).await.unwrap_err());
            assert_eq!(error.kind(), ErrorKind::DataLoss, "{encoding:?}: {error:?}");
            let error =
                Error::from(decoded(encoding, b"this was never compressed".to_vec()).await.unwrap_err());
            assert_eq!(error.kind(), ErrorKind::DataLoss, "{encoding:?}: {error:?}");
        }
    }
}
