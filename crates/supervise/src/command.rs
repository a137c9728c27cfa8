//! What to run: program, arguments, environment, streams.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use crate::environment;
use crate::launcher::Launcher;

/// The default size of the kept part of a stream, in bytes.
pub(crate) const DEFAULT_TAIL: usize = 16 * 1024;

/// Where a child's stdin comes from.
#[derive(Default)]
#[non_exhaustive]
pub enum Input {
    /// Nothing to read: end of file at once. The default.
    #[default]
    Null,
    /// This process's own stdin.
    Inherit,
    /// A pipe, whose other end is [`Child::take_stdin`](crate::Child::take_stdin).
    Piped,
    /// These bytes, then end of file.
    Bytes(Vec<u8>),
}

/// A callback for every line.
pub type EachLine = Box<dyn FnMut(&str) + Send>;

/// Where a child's stdout or stderr goes.
#[non_exhaustive]
pub enum Sink {
    /// Nowhere. The default for stdout.
    Null,
    /// To the same place as this process's own.
    Inherit,
    /// Into a pipe, whose other end is [`Child::take_stdout`](crate::Child::take_stdout) or
    /// [`Child::take_stderr`](crate::Child::take_stderr).
    Piped,
    /// Memory that keeps the last so many bytes: [`Child::stdout_tail`](crate::Child::stdout_tail),
    /// [`Child::stderr_tail`](crate::Child::stderr_tail). The default for stderr, with 16 KiB.
    Tail(usize),
    /// Each line, without its end, to this function, which must neither block nor panic; made by
    /// [`Sink::lines`]. The last 16 KiB are kept as well.
    Lines(EachLine),
    /// Into this file.
    File(File),
}

impl Sink {
    /// Calls `each` with every line, without its end. A line of over 8 KiB comes in pieces; invalid
    /// UTF-8 is replaced. The function must neither block nor panic.
    pub fn lines(each: impl FnMut(&str) + Send + 'static) -> Self {
        Self::Lines(Box::new(each))
    }
}

/// A program to run: arguments as a list, never a shell line.
///
/// Nothing runs before [`Command::spawn`], [`run`](crate::run()) or one of its siblings.
///
/// By default the child has no stdin, its stdout goes nowhere, the last 16 KiB of its stderr are
/// kept, and it leads a new process group. It inherits no file descriptor but the three
/// standard streams.
///
/// It inherits this process's environment without Jumpstarter's secrets: variables of `JMP_…` and
/// `JUMPSTARTER_…` with the word PASSPHRASE, PASSWORD, SECRET, TOKEN or CREDENTIALS in their names.
/// [`Command::env`] sets one for a child that needs it; [`Command::env_only`] is for programs that
/// need next to nothing.
///
/// It runs in this process's current folder, or in `/` if that folder was deleted.
///
/// Its `Debug` shows the arguments (every user of the machine can read those, so they are no place
/// for secrets), but only the names of environment variables.
pub struct Command {
    pub(crate) program: OsString,
    pub(crate) args: Vec<OsString>,
    /// In order; `None` removes the variable.
    pub(crate) env: Vec<(OsString, Option<OsString>)>,
    pub(crate) env_clear: bool,
    pub(crate) folder: Option<PathBuf>,
    pub(crate) stdin: Input,
    pub(crate) stdout: Option<Sink>,
    pub(crate) stderr: Option<Sink>,
    pub(crate) kept: Vec<OwnedFd>,
    pub(crate) own_group: bool,
    pub(crate) hint: Option<String>,
    pub(crate) launcher: Option<Launcher>,
}

impl Command {
    /// A command for `program`: a path, or a name to be looked up in PATH.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            env_clear: false,
            folder: None,
            stdin: Input::Null,
            stdout: None,
            stderr: None,
            kept: Vec::new(),
            own_group: true,
            hint: None,
            launcher: None,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets one environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Removes one environment variable that would be inherited.
    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), None));
        self
    }

    /// Inherits no environment variable, and forgets those that were set.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.env.clear();
        self.env_clear = true;
        self
    }

    /// Inherits only these variables, if they are set, and none that carries a secret. A name that
    /// ends with `*` stands for all with that beginning. Forgets variables that were set before.
    #[must_use]
    pub fn env_only(mut self, names: &[&str]) -> Self {
        let among = environment::among(names).into_iter();
        self.env = among.map(|(name, value)| (name, Some(value))).collect();
        self.env_clear = true;
        self
    }

    /// Runs in this folder. A relative path to the program is then relative to it, too.
    #[must_use]
    pub fn current_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Sets the source of stdin.
    #[must_use]
    pub fn stdin(mut self, input: Input) -> Self {
        self.stdin = input;
        self
    }

    /// Sets the destination of stdout.
    #[must_use]
    pub fn stdout(mut self, sink: Sink) -> Self {
        self.stdout = Some(sink);
        self
    }

    /// Sets the destination of stderr.
    #[must_use]
    pub fn stderr(mut self, sink: Sink) -> Self {
        self.stderr = Some(sink);
        self
    }

    /// Lets the child inherit this file descriptor, under the same number (read it with `as_raw_fd`
    /// before). This process's copy is closed once the child runs.
    #[must_use]
    pub fn keep_fd(mut self, fd: OwnedFd) -> Self {
        self.kept.push(fd);
        self
    }

    /// Leaves the child in this process's own process group, so that it may read from the terminal
    /// and gets Ctrl-C. Signals to the group then go to the program alone.
    #[must_use]
    pub fn in_our_group(mut self) -> Self {
        self.own_group = false;
        self
    }

    /// Runs the program through a launcher, in another container: see [`Launcher`] and its module
    /// for what is different there.
    #[must_use]
    pub fn through(mut self, launcher: Launcher) -> Self {
        self.launcher = Some(launcher);
        self
    }

    /// The hint for a missing program, as "apt-get install qemu-utils".
    #[must_use]
    pub fn install_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The program's name in messages.
    pub(crate) fn name(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }

    /// The descriptors that the child inherits.
    pub(crate) fn kept_numbers(&self) -> Vec<RawFd> {
        self.kept.iter().map(AsRawFd::as_raw_fd).collect()
    }

    /// The destination of stderr, with the default filled in.
    pub(crate) fn take_stderr(&mut self) -> Sink {
        self.stderr.take().unwrap_or(Sink::Tail(DEFAULT_TAIL))
    }

    /// The destination of stdout, with the default filled in.
    pub(crate) fn take_stdout(&mut self) -> Sink {
        self.stdout.take().unwrap_or(Sink::Null)
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Command")
            .field("program", &self.program)
            .field("args", &self.args)
            .field("env", &names)
            .field("folder", &self.folder)
            .field("stdin", &self.stdin)
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => write!(f, "Null"),
            Self::Inherit => write!(f, "Inherit"),
            Self::Piped => write!(f, "Piped"),
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
        }
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => write!(f, "Null"),
            Self::Inherit => write!(f, "Inherit"),
            Self::Piped => write!(f, "Piped"),
            Self::Tail(limit) => write!(f, "Tail({limit} bytes)"),
            Self::Lines(_) => write!(f, "Lines"),
            Self::File(file) => write!(f, "File({file:?})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_value_of_the_environment_and_no_input() {
        let command = Command::new("tool")
            .arg("-v")
            .env("TOKEN", "hush")
            .stdin(Input::Bytes(b"hush".to_vec()));
        let text = format!("{command:?}");
        assert!(text.contains("TOKEN") && text.contains("-v") && !text.contains("hush"), "{text}");
    }
}
