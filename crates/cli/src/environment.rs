//! The surroundings of a command: its output streams and environment variables.
//!
//! Text leaves the program here, and nowhere else. Exporters, guests, files and servers choose
//! names, descriptions, answers, errors and log records. Their text passes `jumpstarter_text`
//! before it is printed, so no command has to think of it: a control sequence is shown, not obeyed.
//! Only consoles, byte streams and images bypass this, through [`crate::terminal::output`].

use std::ffi::OsString;
use std::fmt::{self, Display};
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use jumpstarter_supervise::{StandardStream, was_closed};
use jumpstarter_text::block;
use rustix::termios::tcgetwinsize;

/// Standard output, standard error and the environment's variables of a command. Clones share
/// them.
///
/// ```
/// use jumpstarter_cli::{Environment, run};
///
/// let environment = Environment::new(std::io::sink(), std::io::sink(), |_| None);
/// assert_eq!(run(["j", "power", "on"], &environment), 2); // no variable names a device
/// ```
#[derive(Clone)]
pub struct Environment(Arc<Inner>);

struct Inner {
    out: Stream,
    err: Stream,
    variables: Box<Variables>,
}

/// Looks up a variable.
type Variables = dyn Fn(&str) -> Option<OsString> + Send + Sync;

struct Stream {
    writer: Mutex<Box<dyn Write + Send>>,
    is_terminal: bool,
}

impl Stream {
    fn new(writer: impl Write + Send + 'static, is_terminal: bool) -> Self {
        Self { writer: Mutex::new(Box::new(writer)), is_terminal }
    }

    /// Writes bytes that are safe already, and flushes them.
    fn write(&self, text: &[u8]) -> io::Result<()> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.write_all(text).and_then(|()| writer.flush()).map_err(unread)
    }
}

/// The reader of standard output closed its end. A broken pipe that is not this is a failure.
#[derive(Debug)]
pub(crate) struct Unread;

impl Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads standard output")
    }
}

impl std::error::Error for Unread {}

/// Marks a broken pipe as that of standard output.
pub(crate) fn unread(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => io::Error::new(io::ErrorKind::BrokenPipe, Unread),
        _ => error,
    }
}

impl Environment {
    /// Makes an environment of these streams, which are not terminals, and these variables.
    pub fn new(
        out: impl Write + Send + 'static,
        err: impl Write + Send + 'static,
        variables: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static,
    ) -> Self {
        let (out, err) = (Stream::new(out, false), Stream::new(err, false));
        Self(Arc::new(Inner { out, err, variables: Box::new(variables) }))
    }

    /// The environment of this process.
    pub fn of_process() -> Self {
        let (out, err) = (io::stdout(), io::stderr());
        let (out_is_terminal, err_is_terminal) = (out.is_terminal(), err.is_terminal());
        Self(Arc::new(Inner {
            out: Stream::new(StandardOutput(out), out_is_terminal),
            err: Stream::new(err, err_is_terminal),
            variables: Box::new(|name| std::env::var_os(name)),
        }))
    }

    /// A variable; `None` if it is empty.
    pub(crate) fn variable(&self, name: &str) -> Option<OsString> {
        (self.0.variables)(name).filter(|value| !value.is_empty())
    }

    /// Standard output; makes each piece of text safe.
    pub(crate) fn out(&self) -> impl Write {
        Safe(&self.0.out)
    }

    /// Standard error; makes each piece of text safe. Writing never fails: no other stream could
    /// report the failure.
    pub(crate) fn err(&self) -> impl Write {
        Report(Safe(&self.0.err))
    }

    /// The width of the terminal on standard output: `COLUMNS`, else what it says itself. `None` if
    /// it is no terminal, and if it does not say.
    pub(crate) fn width(&self) -> Option<usize> {
        if !self.0.out.is_terminal {
            return None;
        }
        let given = self.variable("COLUMNS").and_then(|text| text.to_str()?.parse().ok());
        let of_terminal = || Some(tcgetwinsize(io::stdout()).ok()?.ws_col.into());
        given.or_else(of_terminal).filter(|&width| width > 0)
    }

    /// Whether standard error is a terminal.
    pub(crate) fn err_is_terminal(&self) -> bool {
        self.0.err.is_terminal
    }

    /// Whether lines on standard error may be redrawn: it is a terminal, and `NONINTERACTIVE` does
    /// not say otherwise.
    pub(crate) fn err_is_animated(&self) -> bool {
        let is_off = |value: OsString| value == "1" || value == "true";
        self.err_is_terminal() && !self.variable("NONINTERACTIVE").is_some_and(is_off)
    }

    /// Prints a text and a newline on standard output, and flushes it.
    ///
    /// # Errors
    /// Fails if standard output is closed or its reader has closed it: the answer would be lost.
    pub(crate) fn print(&self, text: &str) -> io::Result<()> {
        self.0.out.write(format!("{}\n", block(text)).as_bytes())
    }

    /// Prints a text and a newline on standard error.
    pub(crate) fn report(&self, text: impl Display) {
        self.report_with_end(text, "\n");
    }

    /// As [`report`](Self::report), with another line ending.
    pub(crate) fn report_with_end(&self, text: impl Display, end: &str) {
        let text = format!("{}{end}", block(&text.to_string()).replace('\n', end));
        // A failure cannot be reported anywhere else.
        self.0.err.write(text.as_bytes()).ok();
    }

    /// As [`report`](Self::report), while another program may hold the terminal in raw mode.
    pub(crate) fn report_beside(&self, text: impl Display) {
        self.report_with_end(text, if self.err_is_terminal() { "\r\n" } else { "\n" });
    }

    /// Prints a page of help: `styled`, which is safe already, if the stream shows colours, else
    /// `plain`.
    ///
    /// # Errors
    /// Fails if the stream cannot be written.
    pub(crate) fn help(
        &self,
        to_err: bool,
        styled: impl FnOnce() -> String,
        plain: impl FnOnce() -> String,
    ) -> io::Result<()> {
        let stream = if to_err { &self.0.err } else { &self.0.out };
        let in_colours = stream.is_terminal
            && self.variable("NO_COLOR").is_none()
            && self.variable("TERM").is_none_or(|term| term != "dumb");
        let text = if in_colours { styled() } else { block(&plain()).into_owned() };
        stream.write(text.as_bytes())
    }

    /// Prints completions for a shell. They are plain words already.
    pub(crate) fn script(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.out.write(bytes)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

/// A writer that makes text safe.
struct Safe<'a>(&'a Stream);

impl Write for Safe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(block(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Passes text on, and ignores failures.
struct Report<T>(T);

impl<T: Write> Write for Report<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).ok();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard output. Writing fails if it was closed when the program started: the system may have
/// given its number to another file.
struct StandardOutput(io::Stdout);

impl Write for StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if was_closed(StandardStream::Output) {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "standard output is closed"));
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_safe() {
        let (reader, writer) = io::pipe().unwrap();
        let environment = Environment::new(writer, io::sink(), |_| None);
        let (first, second) = ("a\u{9b}31m", "b\r\n\tc");
        write!(environment.out(), "{first}\n{second}").unwrap();
        environment.print("\u{1b}[2J").unwrap();
        drop(environment);
        let written = io::read_to_string(reader).unwrap();
        assert_eq!(written, "a\\u{9b}31m\nb\n\tc\\u{1b}[2J\n");
    }
}
