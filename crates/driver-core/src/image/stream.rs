//! An opened image: its bytes, counted and checked against the announced length.

use super::progress::{Meter, Observer};
use crate::error::{Error, Result};
use bytes::Bytes;
use futures_core::Stream;
use futures_util::stream::{BoxStream, StreamExt};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

/// The bytes of an [`ImageSource`](super::ImageSource), in order. Nothing follows an error or the
/// end.
pub struct ImageStream {
    name: String,
    length: Option<u64>,
    meter: Meter,
    stream: Option<BoxStream<'static, io::Result<Bytes>>>,
}

impl ImageStream {
    pub(super) fn new(
        name: String,
        stream: BoxStream<'static, io::Result<Bytes>>,
        length: Option<u64>,
        observers: Vec<Observer>,
    ) -> Self {
        Self { name, length, meter: Meter::new(observers, length), stream: Some(stream) }
    }

    /// The number of bytes, if it is known.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Returns the next bytes; `None` at the end. Cancelling loses nothing.
    ///
    /// # Errors
    /// The source's errors; [`DataLoss`](crate::ErrorKind::DataLoss) if its length differs from the
    /// announced one.
    pub async fn receive(&mut self) -> Result<Option<Bytes>> {
        Ok(self.next().await.transpose()?)
    }

    /// Converts it to an [`AsyncRead`].
    pub fn into_async_read(self) -> impl AsyncRead + Send + Unpin + 'static {
        StreamReader::new(self)
    }

    fn length_error(&self, announced: u64, what: &str) -> io::Error {
        let got = self.meter.progress().transferred_bytes;
        Error::data_loss(format!("{}: {what}: {got} of {announced} announced bytes", self.name))
            .with_hint(
                "transfer it again; if it happens again the stored file is not what its owner announced",
            )
            .into()
    }
}

impl Stream for ImageStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        let item = ready!(stream.poll_next_unpin(context));
        let error = match item {
            Some(Ok(chunk)) => {
                self.meter.add(chunk.len() as u64);
                match self.length {
                    Some(length) if self.meter.progress().transferred_bytes > length => {
                        self.length_error(length, "more came than that")
                    }
                    _ => return Poll::Ready(Some(Ok(chunk))),
                }
            }
            Some(Err(error)) => error,
            None => {
                self.stream = None;
                match self.length {
                    Some(length) if self.meter.progress().transferred_bytes < length => {
                        self.length_error(length, "it ended early")
                    }
                    _ => {
                        self.meter.finish();
                        return Poll::Ready(None);
                    }
                }
            }
        };
        self.stream = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl fmt::Debug for ImageStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageStream")
            .field("name", &self.name)
            .field("meter", &self.meter)
            .finish_non_exhaustive()
    }
}
