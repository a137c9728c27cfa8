//! Makes the `:authority` of Python clients acceptable: over a Unix socket they send the
//! percent-encoded path, such as `tmp%2Fdir%2Fsocket`, and the HTTP library here refuses a `%`
//! there and resets every call.
//!
//! [`AuthorityAdapter`] sits under the HTTP/2 server and watches the bytes that arrive: the
//! preface, the frames' headers (RFC 9113, section 4) and the header blocks in them (HPACK, RFC
//! 7541). In the value of `:authority` each `%` becomes a `-` (a `.`, in HPACK's Huffman code),
//! which has the same length, so that nothing else changes. It keeps no data and passes on
//! untouched whatever it does not understand: judging that is the server's work.

mod frames;
mod hpack;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) use frames::Phase;

use frames::Frames;

/// A connection whose incoming authority is rewritten.
#[derive(Debug)]
pub(crate) struct AuthorityAdapter<T> {
    inner: T,
    frames: Frames,
}

impl<T> AuthorityAdapter<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { inner, frames: Frames::default() }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.frames.phase()
    }

    /// What the frames without data that came since the last time count for, and what else came
    /// pays for.
    pub(crate) fn take_counts(&mut self) -> (u32, u32) {
        self.frames.take_counts()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for AuthorityAdapter<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let start = buffer.filled().len();
        let read = Pin::new(&mut this.inner).poll_read(cx, buffer);
        this.frames.pass(&mut buffer.filled_mut()[start..]);
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for AuthorityAdapter<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
