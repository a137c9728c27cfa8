//! Standard input, read only on demand.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::mpsc;

/// The most bytes of one read: enough for pasted text, and for files.
const READ_SIZE: usize = 64 * 1024;

/// Standard input as it comes: keys, a pipe, a file.
///
/// A thread reads on demand: unread input is left for the next reader, such as the parent shell.
/// Dropping ends the thread, even while it waits. (Reading without a thread needs the non-blocking
/// mode, which all users of the terminal would share.)
#[derive(Debug)]
pub(crate) struct Input {
    wanted: mpsc::Sender<()>,
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    /// Whether a read was requested and not answered yet.
    asked: bool,
    /// Closing it ends the thread's wait.
    _stop: OwnedFd,
}

impl Input {
    /// Starts the thread.
    ///
    /// # Errors
    /// Fails if the system has no thread or no pipe left.
    pub(crate) fn of_stdin() -> io::Result<Self> {
        Self::of(io::stdin().as_fd().try_clone_to_owned()?)
    }

    fn of(source: OwnedFd) -> io::Result<Self> {
        let (stopped, stop) = io::pipe()?;
        let (wanted, mut wants) = mpsc::channel(1);
        let (sender, chunks) = mpsc::channel(1);
        let read = move || {
            while let Some(()) = wants.blocking_recv() {
                let Some(chunk) = wait_and_read(&source, &stopped).transpose() else { return };
                let ended = !matches!(&chunk, Ok(bytes) if !bytes.is_empty());
                if sender.blocking_send(chunk).is_err() || ended {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("stdin".to_owned()).spawn(read)?;
        Ok(Self { wanted, chunks, asked: false, _stop: stop.into() })
    }

    /// Returns the available input; `None` at its end and after the terminal was closed.
    ///
    /// Cancelling loses nothing.
    ///
    /// # Errors
    /// Fails if reading fails.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if !self.asked {
            // Fails if the thread has ended; then no chunk follows either.
            self.asked = self.wanted.send(()).await.is_ok();
        }
        let chunk = self.chunks.recv().await;
        self.asked = false;
        Ok(chunk.transpose()?.filter(|bytes| !bytes.is_empty()))
    }
}

/// Waits for input and reads it, empty at its end; `None` if it was stopped first.
fn wait_and_read(source: &OwnedFd, stopped: &impl AsFd) -> io::Result<Option<Bytes>> {
    loop {
        let mut both = [
            PollFd::new(source, PollFlags::IN),
            PollFd::from_borrowed_fd(stopped.as_fd(), PollFlags::IN),
        ];
        match poll(&mut both, None) {
            Err(rustix::io::Errno::INTR) => continue,
            polled => polled?,
        };
        if !both[1].revents().is_empty() {
            return Ok(None);
        }
        let mut buffer = vec![0; READ_SIZE];
        match rustix::io::read(source, &mut buffer) {
            Ok(count) => {
                buffer.truncate(count);
                return Ok(Some(buffer.into()));
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            // A terminal answers this after it was closed.
            Err(rustix::io::Errno::IO) => return Ok(Some(Bytes::new())),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};

    #[tokio::test]
    async fn what_was_not_asked_for_stays() {
        let (mut reader, mut writer) = io::pipe().unwrap();
        let mut input = Input::of(reader.try_clone().unwrap().into()).unwrap();
        writer.write_all(b"one").unwrap();
        assert_eq!(input.next().await.unwrap().as_deref(), Some(&b"one"[..]));
        writer.write_all(b"two").unwrap();
        drop((input, writer));
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "two");
    }

    #[tokio::test]
    async fn a_cancelled_read_loses_nothing() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut input = Input::of(reader.into()).unwrap();
        for _ in 0..3 {
            tokio::select! {
                biased;
                _ = input.next() => panic!("nothing was written yet"),
                () = tokio::task::yield_now() => {}
            }
        }
        writer.write_all(b"late").unwrap();
        drop(writer);
        assert_eq!(input.next().await.unwrap().as_deref(), Some(&b"late"[..]));
        assert_eq!(input.next().await.unwrap(), None);
        assert_eq!(input.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_file_is_read_to_its_end() {
        let mut file = tempfile::tempfile().unwrap();
        let text = vec![b'x'; READ_SIZE + 1];
        file.write_all(&text).unwrap();
        file.rewind().unwrap();
        let mut input = Input::of(file.into()).unwrap();
        let mut read = Vec::new();
        while let Some(chunk) = input.next().await.unwrap() {
            read.extend_from_slice(&chunk);
        }
        assert_eq!(read, text);
    }
}
