//! The output of a child: its last part is kept, lines are passed on.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;

use crate::command::{DEFAULT_TAIL, EachLine, Sink};

/// The most that a line callback gets at once, in bytes.
const LONGEST_LINE: usize = 8 * 1024;
/// The most that a pipe holds, unless root raised it, and so the most that was written before the
/// exit and is still unread.
const LARGEST_PIPE: usize = 1024 * 1024;

/// The last bytes of a stream; shared by the pump and the handles.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail(Arc<Mutex<Bytes>>);

#[derive(Debug, Default)]
struct Bytes {
    kept: VecDeque<u8>,
    dropped: bool,
}

impl Tail {
    fn push(&self, bytes: &[u8], limit: usize) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.kept.extend(bytes);
        let excess = inner.kept.len().saturating_sub(limit);
        inner.kept.drain(..excess);
        inner.dropped |= excess > 0;
    }

    /// The kept bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).kept.iter().copied().collect()
    }

    /// The kept bytes, as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// Whether earlier bytes were dropped.
    pub(crate) fn is_cut(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).dropped
    }
}

/// Keeps bytes, and passes lines on.
struct Keeper {
    tail: Tail,
    limit: usize,
    each: Option<EachLine>,
    line: Vec<u8>,
}

impl Keeper {
    fn new(sink: Sink, tail: Tail) -> Self {
        let (limit, each) = match sink {
            Sink::Lines(each) => (DEFAULT_TAIL, Some(each)),
            Sink::Tail(limit) => (limit, None),
            _ => (DEFAULT_TAIL, None),
        };
        Self { tail, limit, each, line: Vec::new() }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.tail.push(bytes, self.limit);
        if self.each.is_none() {
            return;
        }
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.line.len() >= LONGEST_LINE {
                self.end_line();
            }
        }
    }

    /// Passes on the incomplete last line, if there is one.
    fn end_line(&mut self) {
        if let Some(each) = &mut self.each
            && !self.line.is_empty()
        {
            let text = String::from_utf8_lossy(&self.line);
            each(text.trim_end_matches(['\n', '\r']));
            self.line.clear();
        }
    }
}

/// Asks a pump to read what was written so far; it answers by sending or dropping.
pub(crate) type Drain = oneshot::Sender<oneshot::Sender<()>>;

/// Reads a pipe to its end in a task, which ends with the pipe.
pub(crate) struct Pump {
    drain: Drain,
    task: tokio::task::JoinHandle<()>,
}

impl Pump {
    pub(crate) fn start(pipe: OwnedFd, sink: Sink, tail: Tail) -> io::Result<Self> {
        let pipe = Receiver::from_owned_fd(pipe)?;
        let (drain, asked) = oneshot::channel();
        let task = tokio::spawn(pump(pipe, Keeper::new(sink, tail), asked));
        Ok(Self { drain, task })
    }

    /// Returns when everything that was written before this call has been kept and passed on. Never
    /// waits for the writer, so a descendant that keeps the pipe open does not matter.
    pub(crate) async fn drain(self) -> Reading {
        let (answer, done) = oneshot::channel();
        if self.drain.send(answer).is_ok() {
            // An error means that the pump has ended, so it has read everything.
            drop(done.await);
        }
        Reading(self.task)
    }
}

/// A pump that continues to read the output of descendants, until it is dropped.
pub(crate) struct Reading(tokio::task::JoinHandle<()>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn pump(
    pipe: Receiver,
    mut keeper: Keeper,
    mut asked: oneshot::Receiver<oneshot::Sender<()>>,
) {
    let mut buffer = vec![0; 16 * 1024];
    let mut drained = false;
    loop {
        tokio::select! {
            answer = &mut asked, if !drained => {
                drained = true;
                let ended = read_available(&pipe, &mut buffer, &mut keeper);
                keeper.end_line();
                if let Ok(answer) = answer {
                    // It only fails if nobody waits any more.
                    answer.send(()).ok();
                }
                if ended {
                    return;
                }
            }
            ready = pipe.readable() => {
                match ready.and_then(|()| pipe.try_read(&mut buffer)) {
                    Ok(0) => break,
                    Ok(count) => keeper.take(&buffer[..count]),
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                    Err(_) => break,
                }
            }
        }
    }
    keeper.end_line();
}

/// Reads until the pipe is empty or a whole pipe was read; returns true at its end.
///
/// Asks the system directly: the runtime may not know yet that there is data.
fn read_available(pipe: &Receiver, buffer: &mut [u8], keeper: &mut Keeper) -> bool {
    let mut total = 0;
    while total <= LARGEST_PIPE {
        match rustix::io::read(pipe, &mut *buffer) {
            Ok(0) => return true,
            Ok(count) => {
                total += count;
                keeper.take(&buffer[..count]);
            }
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_bytes() {
        let tail = Tail::default();
        tail.push(b"hello", 8);
        assert!(!tail.is_cut());
        tail.push(b" world", 8);
        assert_eq!((tail.text().as_str(), tail.is_cut()), ("lo world", true));
    }

    #[test]
    fn lines_come_whole_however_they_were_read() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&lines);
        let sink = Sink::lines(move |line| seen.lock().unwrap().push(line.to_owned()));
        let mut keeper = Keeper::new(sink, Tail::default());
        for piece in ["on", "e\r\ntw", "o\n\nthree"] {
            keeper.take(piece.as_bytes());
        }
        keeper.end_line();
        assert_eq!(*lines.lock().unwrap(), ["one", "two", "", "three"]);
    }
}
