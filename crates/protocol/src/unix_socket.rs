//! A Unix socket whose owner is not woken when its peer reads.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

/// A connected Unix socket, as bytes.
///
/// Each time that the peer has read, Linux wakes every watcher of such a socket's room
/// (`unix_write_space` in net/unix/af_unix.c), even if the socket was not full. Tokio's own type
/// always watches for room, and so wakes up twice for each answer to a short request; between two
/// processes that is most of a call's time. This type watches for room only while there is none.
///
/// It reads like a pipe, and not with tokio's `AsyncFd`, which would have to clear every buffer
/// before reading into it, or need unsafe code.
#[derive(Debug)]
pub struct UnixSocket {
    /// Reads from the socket, and watches for incoming data only.
    reader: pipe::Receiver,
    /// Writes to the socket, and watches for room, while there is none.
    room: Option<pipe::Sender>,
}

impl UnixSocket {
    /// Takes over the socket.
    ///
    /// # Errors
    /// The system's errors, such as too many open files.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        let reader = pipe::Receiver::from_owned_fd_unchecked(stream.into_std()?.into())?;
        Ok(Self { reader, room: None })
    }

    /// Writes `pieces` as soon as there is room.
    fn poll_writing(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.room.is_none() {
            match rustix::io::writev(&self.reader, pieces) {
                Err(Errno::AGAIN) => {}
                done => return Poll::Ready(done.map_err(io::Error::from)),
            }
            let same = self.reader.as_fd().try_clone_to_owned()?;
            self.room = Some(pipe::Sender::from_owned_fd_unchecked(same)?);
        }
        let Some(room) = &mut self.room else { return Poll::Pending };
        let written = ready!(Pin::new(room).poll_write_vectored(cx, pieces));
        self.room = None;
        Poll::Ready(written)
    }
}

impl AsyncRead for UnixSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buffer)
    }
}

impl AsyncWrite for UnixSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_writing(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_writing(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown(&self.reader, Shutdown::Write).map_err(io::Error::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn pair() -> (UnixSocket, UnixSocket) {
        let (left, right) = UnixStream::pair().unwrap();
        (UnixSocket::new(left).unwrap(), UnixSocket::new(right).unwrap())
    }

    #[tokio::test]
    async fn more_than_fits_goes_both_ways_at_once_and_each_direction_ends() {
        const LENGTH: usize = 3_000_000;
        let pattern =
            |seed: usize| (0..LENGTH).map(|at| (at * seed % 251) as u8).collect::<Vec<_>>();
        let (left, right) = pair();
        let exchange = async |socket: UnixSocket, sent: usize, expected: usize| {
            let (mut reader, mut writer) = tokio::io::split(socket);
            let sending = async {
                writer.write_all(&pattern(sent)).await.unwrap();
                writer.shutdown().await.unwrap();
            };
            let mut received = Vec::new();
            let (_, count) = tokio::join!(sending, reader.read_to_end(&mut received));
            assert!(count.unwrap() == LENGTH && received == pattern(expected));
        };
        tokio::join!(exchange(left, 3, 7), exchange(right, 7, 3));
    }

    #[tokio::test]
    async fn who_waits_for_room_is_told_of_it_and_of_the_other_sides_death() {
        let (mut left, mut right) = pair();
        let fill = async |socket: &mut UnixSocket| loop {
            let write = |cx: &mut Context<'_>| {
                Poll::Ready(Pin::new(&mut *socket).poll_write(cx, &[7; 100_000]))
            };
            if std::future::poll_fn(write).await.is_pending() {
                return;
            }
        };
        fill(&mut left).await;
        assert!(left.room.is_some());
        let read = async {
            let mut piece = vec![0; 1_000_000];
            right.read(&mut piece).await.unwrap()
        };
        let (written, read) = tokio::join!(left.write(b"more"), read);
        assert!(written.unwrap() > 0 && read > 0);
        assert!(left.room.is_none(), "it watches for room no more");
        fill(&mut left).await;
        let (written, ()) = tokio::join!(left.write(b"more"), async { drop(right) });
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
