//! A [`Target`] as a writer whose shutdown puts it in place: for encoded images.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt;
use jumpstarter_files::{Target, Turn};
use tokio::io::AsyncWrite;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::error::Error;

/// The most bytes accepted at once.
const PIECE: usize = 1024 * 1024;

pub(super) struct TargetWriter(State);

enum State {
    Idle(Target),
    Writing(JoinHandle<io::Result<Target>>),
    Committing(JoinHandle<io::Result<bool>>),
    Done,
}

impl TargetWriter {
    pub(super) fn new(target: Target) -> Self {
        Self(State::Idle(target))
    }

    /// Waits for the write under way, and returns its error.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let State::Writing(task) = &mut self.0 {
            let outcome = ready!(task.poll_unpin(cx));
            self.0 = State::Done;
            self.0 = State::Idle(outcome.unwrap_or_else(lost)?);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TargetWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_idle(cx))?;
        match std::mem::replace(&mut self.0, State::Done) {
            State::Idle(mut target) => {
                let bytes = data[..data.len().min(PIECE)].to_vec();
                let count = bytes.len();
                self.0 =
                    State::Writing(spawn_blocking(move || target.write(&bytes).map(|()| target)));
                Poll::Ready(Ok(count))
            }
            _ => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_idle(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_idle(cx))?;
        loop {
            match std::mem::replace(&mut self.0, State::Done) {
                State::Idle(target) => {
                    self.0 =
                        State::Committing(spawn_blocking(move || target.commit(&Turn::default())));
                }
                State::Committing(mut task) => match task.poll_unpin(cx) {
                    Poll::Pending => {
                        self.0 = State::Committing(task);
                        return Poll::Pending;
                    }
                    Poll::Ready(outcome) => {
                        return Poll::Ready(outcome.unwrap_or_else(lost).map(drop));
                    }
                },
                State::Writing(_) | State::Done => return Poll::Ready(Ok(())),
            }
        }
    }
}

fn lost<T>(error: tokio::task::JoinError) -> io::Result<T> {
    Err(Error::internal("a blocking task ended without a result").with_source(error).into())
}
