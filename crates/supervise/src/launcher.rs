//! Programs in another container: a launcher there starts them, over a Unix socket.
//!
//! The launcher is `jumpstarter-exec serve`, beside an exporter in a pod. Each connection runs one
//! program. A program started with [`Command::through`](crate::Command::through) is a
//! [`Child`](crate::Child) like any other, with these differences:
//!
//! - It gets the launcher's environment and the variables that were set with
//!   [`Command::env`](crate::Command::env), and no file descriptor but its standard streams, which
//!   are pipes.
//! - Its process id is a number of the other container.
//! - A signal to its group reaches the program alone.
//! - The launcher does not name the signal that killed a program.
//!
//! The program's life is bound to the connection, as it is bound to a guardian here: when the last
//! handle is dropped, or this process dies, the launcher ends the program.

mod bridge;
mod messages;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use bridge::start;
pub use messages::{ClientMessage, Data, LONGEST_MESSAGE, ServerMessage};

use crate::SuperviseError;

/// How long a launcher may take to answer a request.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// The socket of a launcher. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Launcher {
    socket: Arc<Path>,
}

impl Launcher {
    /// The launcher that listens on this socket. Connects when a program is started.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into().into() }
    }

    /// The path of its socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks the launcher to end its programs and itself, and returns its exit code. Blocks for at
    /// most `within`.
    ///
    /// # Errors
    ///
    /// [`Launcher`](SuperviseError::Launcher) if it does not listen or answer.
    pub fn shut_down(&self, within: Duration) -> Result<i32, SuperviseError> {
        let asked =
            self.request(&ClientMessage::Shutdown, within).and_then(|(answer, _)| match answer {
                ServerMessage::Exit { code } => Ok(code.unwrap_or(1)),
                ServerMessage::Error { message } => Err(io::Error::other(message)),
                other => Err(unexpected(&other)),
            });
        asked.map_err(|error| self.failed("jumpstarter-exec", error))
    }

    /// Sends the first message of a connection, and returns its answer.
    fn request(
        &self,
        message: &ClientMessage,
        within: Duration,
    ) -> io::Result<(ServerMessage, Connection)> {
        let mut socket = UnixStream::connect(&*self.socket)?;
        socket.set_read_timeout(Some(within))?;
        socket.set_write_timeout(Some(within))?;
        socket.write_all(&message.to_line())?;
        let mut reader = BufReader::new(&socket).take(LONGEST_MESSAGE as u64);
        let mut line = Vec::new();
        let closed = || io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection");
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => return Err(closed()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let message = format!("it did not answer within {within:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            Err(error) => return Err(error),
        }
        let answer = ServerMessage::from_line(&line)?;
        let received = reader.into_inner().buffer().to_vec();
        Ok((answer, Connection { socket, received }))
    }

    fn failed(&self, program: &str, source: io::Error) -> SuperviseError {
        let (program, socket) = (program.to_owned(), self.socket.to_path_buf());
        SuperviseError::Launcher { program, socket, source: Arc::new(source) }
    }
}

/// A connection whose program was started.
struct Connection {
    socket: UnixStream,
    /// What arrived behind the answer.
    received: Vec<u8>,
}

fn unexpected(answer: &ServerMessage) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("an unexpected answer: {answer:?}"))
}
