//! Takes over the terminal, and restores it.

mod ask;
mod input;

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use jumpstarter_driver_core::{Error, Result, ResultExt};
use rustix::process::getpgrp;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};
use tokio::io::AsyncWrite;

use crate::environment::unread;

pub(crate) use ask::{Echo, ask, ask_beside, confirm_insecure_tls};
pub(crate) use input::Input;

/// Whether standard input is a terminal.
pub(crate) fn is_interactive() -> bool {
    io::stdin().is_terminal()
}

/// Standard output for raw bytes, whose writes may wait.
///
/// # Errors
/// Fails if standard output is closed.
pub(crate) fn output() -> io::Result<Output> {
    let copy = io::stdout().as_fd().try_clone_to_owned()?;
    Ok(Output(tokio::fs::File::from_std(copy.into())))
}

/// Standard output. Its broken pipe is known as such: the command then ends quietly.
pub(crate) struct Output(tokio::fs::File);

impl AsyncWrite for Output {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes).map_err(unread)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context).map_err(unread)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context).map_err(unread)
    }
}

/// Standard error for bytes as they come, as [`output`].
///
/// # Errors
/// When it is closed.
pub(crate) fn error_output() -> io::Result<tokio::fs::File> {
    let copy = io::stderr().as_fd().try_clone_to_owned()?;
    Ok(tokio::fs::File::from_std(copy.into()))
}

/// The terminal in raw mode: each key arrives at once and unchanged, Ctrl-C too, and output is not
/// altered.
///
/// Dropping it restores the previous settings; errors and panics drop it, too. A signal that ends
/// the process does not, without a handler.
#[derive(Debug)]
pub(crate) struct RawTerminal {
    /// Restored on drop.
    _before: Settings,
}

impl RawTerminal {
    /// Takes over the terminal on standard input.
    ///
    /// # Errors
    /// Fails with `FailedPrecondition` if standard input is not a terminal.
    pub(crate) fn enter() -> Result<Self> {
        Self::of(io::stdin())
    }

    fn of(terminal: impl AsFd) -> Result<Self> {
        let before = Settings::of(terminal)
            .ok_or_else(|| Error::failed_precondition("standard input is not a terminal"))?;
        let mut raw = before.settings.clone();
        raw.make_raw();
        // Not `Drain`, which waits for ever if nobody reads.
        tcsetattr(&before.terminal, OptionalActions::Now, &raw)
            .map_err(io::Error::from)
            .context("putting the terminal into raw mode")?;
        Ok(Self { _before: before })
    }
}

/// A terminal's settings, which are restored on drop.
///
/// For programs that lend the terminal to others, which may be killed while they use it.
#[derive(Debug)]
pub(crate) struct Settings {
    terminal: OwnedFd,
    settings: Termios,
}

impl Settings {
    /// Saves the settings of standard input, if it is a terminal.
    pub(crate) fn save() -> Option<Self> {
        Self::of(io::stdin())
    }

    fn of(terminal: impl AsFd) -> Option<Self> {
        // A copy, which stays valid if the original is closed.
        let terminal = terminal.as_fd().try_clone_to_owned().ok()?;
        let settings = tcgetattr(&terminal).ok()?;
        Some(Self { terminal, settings })
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        // From the background the system would stop this process instead. A terminal of another
        // session has no such group, and accepts settings from everybody.
        if tcgetpgrp(&self.terminal).is_ok_and(|foreground| foreground != getpgrp()) {
            return;
        }
        // A closed terminal needs no settings.
        tcsetattr(&self.terminal, OptionalActions::Now, &self.settings).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::LocalModes;

    /// Both ends of a new terminal.
    fn terminal() -> (OwnedFd, std::fs::File) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let end = std::fs::File::options().read(true).write(true).open(path).unwrap();
        (master, end)
    }

    fn is_raw(terminal: &impl AsFd) -> bool {
        !tcgetattr(terminal).unwrap().local_modes.intersects(LocalModes::ECHO | LocalModes::ICANON)
    }

    fn modes(terminal: &impl AsFd) -> String {
        format!("{:?}", tcgetattr(terminal).unwrap())
    }

    #[test]
    fn raw_until_dropped() {
        let (_master, terminal) = terminal();
        let before = modes(&terminal);
        let raw = RawTerminal::of(&terminal).unwrap();
        assert!(is_raw(&terminal));
        drop(raw);
        assert_eq!(modes(&terminal), before);
    }

    #[test]
    fn raw_until_a_panic() {
        let (_master, terminal) = terminal();
        let before = modes(&terminal);
        let end = terminal.try_clone().unwrap();
        let panicked = std::thread::spawn(move || {
            let _raw = RawTerminal::of(&end).unwrap();
            assert!(!is_raw(&end), "this is the panic that is tested");
        });
        assert!(panicked.join().is_err());
        assert_eq!(modes(&terminal), before);
    }

    #[test]
    fn a_terminal_that_is_gone_is_left_alone() {
        let (master, terminal) = terminal();
        let raw = RawTerminal::of(&terminal).unwrap();
        drop((master, terminal));
        drop(raw);
    }

    #[test]
    fn a_file_is_no_terminal() {
        let file = tempfile::tempfile().unwrap();
        let error = RawTerminal::of(&file).unwrap_err();
        assert_eq!(error.to_string(), "standard input is not a terminal");
    }
}
