//! The errors of child processes; their texts name the program.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::ExitStatus;

/// Where the streams of a program lead that has none.
const NULL: &str = "/dev/null";

/// Why a program could not be started, failed, or could not be stopped.
///
/// The text says what happened to which program; the remedy is separate, in
/// [`SuperviseError::hint`]. Cheap to clone, because every caller of one stop gets the same result.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SuperviseError {
    /// There is no such program.
    #[error("cannot run `{program}`: {what}")]
    NotFound {
        /// The program as it was asked for.
        program: String,
        /// The missing file: the program, the interpreter that it names, or a device.
        what: String,
        /// The instruction that remedies it.
        hint: String,
    },
    /// The program exists and may not be executed.
    #[error("cannot run `{program}`: permission denied")]
    PermissionDenied {
        /// The program as it was asked for.
        program: String,
    },
    /// The folder to run in does not exist or cannot be entered.
    #[error("cannot run `{program}` in the folder {}: {source}", folder.display())]
    Folder {
        /// The program as it was asked for.
        program: String,
        /// The folder's path, as set by [`Command::current_dir`](crate::Command::current_dir).
        folder: PathBuf,
        /// The system's error.
        source: Arc<io::Error>,
    },
    /// The system could not start the program, for another reason.
    #[error("cannot start `{program}`: {source}")]
    Start {
        /// The program as it was asked for.
        program: String,
        /// The system's error.
        source: Arc<io::Error>,
    },
    /// The launcher in another container could not start the program, or does not answer.
    #[error("cannot run `{program}` through the launcher {}: {source}", socket.display())]
    Launcher {
        /// The program as it was asked for.
        program: String,
        /// The launcher's socket.
        socket: PathBuf,
        /// The reason.
        source: Arc<io::Error>,
    },
    /// The program ran, and did not end with success.
    #[error("`{program}` failed ({status}): {}", quoted(stderr))]
    Failed {
        /// The program as it was asked for.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote to stderr; what it wrote to stdout if that was nothing.
        stderr: String,
    },
    /// The program did not end within its deadline, and was killed.
    #[error("`{program}` did not end within {deadline:?} and was killed: {}", quoted(stderr))]
    Deadline {
        /// The program as it was asked for.
        program: String,
        /// The time that the program had.
        deadline: Duration,
        /// The last part of its stderr.
        stderr: String,
    },
    /// The program wrote more to stdout than the limit.
    #[error("`{program}` wrote more than the {limit} bytes of output that are kept")]
    OutputTooLarge {
        /// The program as it was asked for.
        program: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// Even SIGKILL did not end the program and all of its descendants in time.
    #[error(
        "`{program}` (process {pid}) or one of its descendants is still there {waited:?} after SIGKILL"
    )]
    StillRunning {
        /// The program as it was asked for.
        program: String,
        /// The program's process id.
        pid: u32,
        /// The wait after the SIGKILL.
        waited: Duration,
    },
    /// The runtime that watched the child was shut down (or there was none to start it on).
    #[error("nothing watches over `{program}`: there is no async runtime, or it was shut down")]
    NoRuntime {
        /// The program as it was asked for.
        program: String,
    },
}

impl SuperviseError {
    /// An instruction that remedies the error, if one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { hint, .. } => Some(hint.clone()),
            Self::PermissionDenied { program } => Some(format!(
                "is `{program}` a program? If so: chmod +x, and a file system without noexec"
            )),
            Self::Folder { .. } => Some("create the folder, or correct its path".to_owned()),
            Self::Launcher { socket, source, .. } if launcher_is_gone(source.kind()) => {
                let socket = socket.display();
                Some(format!(
                    "check that the sidecar runs `jumpstarter-exec serve --socket {socket}`"
                ))
            }
            Self::StillRunning { pid, .. } => Some(format!(
                "it may hang in the kernel (state D in `ps {pid}`), or belong to another user"
            )),
            _ => None,
        }
    }

    /// Explains why starting `program` failed with `error`.
    pub(crate) fn from_start(
        program: &str,
        folder: Option<&Path>,
        hint: Option<&str>,
        error: io::Error,
    ) -> Self {
        let program = program.to_owned();
        if let Some(folder) = folder
            && let Err(source) = std::fs::read_dir(folder)
        {
            return Self::Folder { program, folder: folder.to_owned(), source: Arc::new(source) };
        }
        match error.kind() {
            io::ErrorKind::NotFound if !Path::new(NULL).exists() => Self::NotFound {
                program,
                what: format!("{NULL}, which programs get for their streams, does not exist"),
                hint: "give this process the devices of a container: null, zero, full, random \
                       and urandom in /dev"
                    .to_owned(),
            },
            io::ErrorKind::NotFound => Self::not_found(program, hint),
            io::ErrorKind::PermissionDenied => Self::PermissionDenied { program },
            _ => Self::Start { program, source: Arc::new(error) },
        }
    }

    fn not_found(program: String, hint: Option<&str>) -> Self {
        let is_path = program.contains('/');
        let (what, usual) = if is_path && Path::new(&program).exists() {
            (
                "it exists, but the interpreter or loader that it names does not",
                "look at its first line, or build it for this system",
            )
        } else if is_path && Path::new(&program).is_relative() && std::env::current_dir().is_err() {
            (
                "its path is relative, and the current folder was deleted",
                "give an absolute path, or start from a folder that exists",
            )
        } else if is_path {
            ("there is no such file", "correct the path, or install the program")
        } else {
            ("there is no such program in PATH", "install it, or add its folder to PATH")
        };
        Self::NotFound { program, what: what.to_owned(), hint: hint.unwrap_or(usual).to_owned() }
    }
}

/// Whether an error means that no launcher listens, or that it ended when it was asked.
fn launcher_is_gone(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, PermissionDenied, UnexpectedEof,
    };
    matches!(
        kind,
        NotFound
            | ConnectionRefused
            | PermissionDenied
            | BrokenPipe
            | ConnectionReset
            | UnexpectedEof
    )
}

/// The program's last output, for the end of a sentence.
fn quoted(stderr: &str) -> &str {
    match stderr.trim() {
        "" => "it wrote nothing to stderr",
        text => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_has_the_hint_of_its_command() {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let error = SuperviseError::from_start(
            "qemu-img",
            None,
            Some("apt-get install qemu-utils"),
            missing(),
        );
        assert_eq!(error.to_string(), "cannot run `qemu-img`: there is no such program in PATH");
        assert_eq!(error.hint().as_deref(), Some("apt-get install qemu-utils"));

        let error = SuperviseError::from_start("/nowhere/tool", None, None, missing());
        assert_eq!(error.to_string(), "cannot run `/nowhere/tool`: there is no such file");
    }

    #[test]
    fn a_failure_quotes_stderr_or_says_that_there_was_none() {
        let failed = |stderr: &str| SuperviseError::Failed {
            program: "qemu-img".to_owned(),
            status: ExitStatus::Code(1),
            stderr: stderr.to_owned(),
        };
        assert_eq!(failed("no disk\n").to_string(), "`qemu-img` failed (exit code 1): no disk");
        assert_eq!(
            failed("").to_string(),
            "`qemu-img` failed (exit code 1): it wrote nothing to stderr"
        );
    }
}
