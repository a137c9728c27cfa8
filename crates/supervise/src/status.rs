//! The exit status of a process.

use std::fmt;
use std::os::unix::process::ExitStatusExt;

/// The exit status of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExitStatus {
    /// It exited by itself with this code; 0 is success.
    Code(i32),
    /// A signal with this number killed it.
    Signal(i32),
    /// Its end was not observed: its guardian was killed (then so was the process), the runtime was
    /// shut down, or a launcher ended or named no signal.
    Unknown,
}

impl ExitStatus {
    /// Whether it exited by itself with code 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }

    /// The exit code, if it exited by itself.
    #[must_use]
    pub fn code(self) -> Option<i32> {
        match self {
            Self::Code(code) => Some(code),
            _ => None,
        }
    }

    /// The number of the signal that killed it, if one did.
    #[must_use]
    pub fn signal(self) -> Option<i32> {
        match self {
            Self::Signal(number) => Some(number),
            _ => None,
        }
    }

    /// From the status that waitpid(2) returns.
    pub(crate) fn from_wait(raw: i32) -> Self {
        let status = std::process::ExitStatus::from_raw(raw);
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Unknown,
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => write!(f, "killed by {}", signal_name(number)),
            Self::Unknown => write!(f, "its end was not observed"),
        }
    }
}

/// `SIGTERM` for 15; `signal 99` for a number without a well-known name.
pub(crate) fn signal_name(number: i32) -> String {
    let name = match number {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGCONT => "SIGCONT",
        libc::SIGSTOP => "SIGSTOP",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => return format!("signal {number}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_well() {
        assert_eq!(ExitStatus::from_wait(0).to_string(), "exit code 0");
        assert_eq!(ExitStatus::from_wait(3 << 8).to_string(), "exit code 3");
        assert_eq!(ExitStatus::from_wait(9).to_string(), "killed by SIGKILL");
        assert_eq!(ExitStatus::Unknown.to_string(), "its end was not observed");
        assert_eq!(ExitStatus::Signal(60).to_string(), "killed by signal 60");
        assert!(ExitStatus::from_wait(0).success() && !ExitStatus::from_wait(9).success());
    }
}
