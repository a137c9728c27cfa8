//! A [`StagedFile`] as a writer whose shutdown puts it in place.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt;
use jumpstarter_files::StagedFile;
use tokio::io::AsyncWrite;
use tokio::task::JoinHandle;

use crate::error::{Error, Result};

pub(super) struct StagedWriter {
    file: tokio::fs::File,
    state: State,
}

enum State {
    Open(StagedFile),
    Committing(JoinHandle<io::Result<()>>),
    Done,
}

impl StagedWriter {
    pub(super) fn new(staged: StagedFile) -> Result<Self> {
        let file = tokio::fs::File::from_std(staged.file().try_clone()?);
        Ok(Self { file, state: State::Open(staged) })
    }
}

impl AsyncWrite for StagedWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.file).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.file).poll_flush(cx))?;
        loop {
            match std::mem::replace(&mut self.state, State::Done) {
                State::Open(staged) => {
                    self.state = State::Committing(tokio::task::spawn_blocking(move || staged.commit()));
                }
                State::Committing(mut task) => match task.poll_unpin(cx) {
                    Poll::Pending => {
                        self.state = State::Committing(task);
                        return Poll::Pending;
                    }
                    Poll::Ready(outcome) => {
                        let lost = |error| {
                            Err(Error::internal("a blocking task ended without a result")
                                .with_source(error)
                                .into())
                        };
                        return Poll::Ready(outcome.unwrap_or_else(lost));
                    }
                },
                State::Done => return Poll::Ready(Ok(())),
            }
        }
    }
}
