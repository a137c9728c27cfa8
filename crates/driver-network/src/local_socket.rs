//! The local end of a forwarded connection: a TCP socket that is reset unless the device's answer
//! came to its end.
//!
//! A plain close would look like a complete answer to the program at the other end, although the
//! device broke off.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

#[derive(Debug)]
pub(crate) struct LocalSocket {
    stream: TcpStream,
    answer_ended: bool,
}

impl LocalSocket {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, answer_ended: false }
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        if !self.answer_ended {
            // Where that fails, the close is a plain one.
            self.stream.set_zero_linger().ok();
        }
    }
}

impl AsyncRead for LocalSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for LocalSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        self.answer_ended = true;
        Poll::Ready(Ok(()))
    }
}
