//! What the cases dump to.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio::sync::Notify;

/// Keeps the written bytes.
#[derive(Clone, Default)]
pub(in crate::cases) struct Collected(pub(in crate::cases) Arc<Mutex<Vec<u8>>>);

/// Fails every write.
pub(super) struct Broken;

/// Accepts nothing, and notifies at the first attempt.
pub(super) struct Stuck(pub(super) Arc<Notify>);

macro_rules! writer {
    ($type:ident, |$self:ident, $bytes:ident| $write:expr) => {
        impl AsyncWrite for $type {
            fn poll_write(
                $self: Pin<&mut Self>,
                _: &mut Context<'_>,
                $bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                $write
            }
            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }
    };
}

writer!(Collected, |self, bytes| {
    self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
    Poll::Ready(Ok(bytes.len()))
});
writer!(Broken, |self, _bytes| Poll::Ready(Err(io::Error::other(
    "the target fails, as the test wants"
))));
writer!(Stuck, |self, _bytes| {
    self.0.notify_one();
    Poll::Pending
});
