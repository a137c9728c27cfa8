//! A terminal device, opened raw and for one user at a time.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use jumpstarter_driver_core::{
    Error, Result, ResultExt, SerialFlowControl, SerialParity, SerialSettings,
};
use nix::fcntl::FlockArg;
use rustix::fs::{Mode, OFlags};
use rustix::termios::{ControlModes, OptionalActions, isatty, tcgetattr, tcsetattr};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio_serial::{DataBits, FlowControl, Parity, SerialPort as _, SerialStream, StopBits};

use crate::present;

/// The levels of the lines that somebody set; `None` leaves a line as the system has it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Lines {
    pub(crate) dtr: Option<bool>,
    pub(crate) rts: Option<bool>,
}

/// An open terminal device. Dropping it closes it, off the runtime's threads: closing waits for
/// unsent output.
pub(crate) struct Tty {
    stream: Option<SerialStream>,
    /// Held until the device is closed; the next user waits for it.
    permit: Option<OwnedSemaphorePermit>,
}

impl Tty {
    /// Opens `path`, raw, with all `settings`. Blocks: for a blocking thread of a runtime. Other
    /// processes are kept out by an advisory lock, which the system releases however this process
    /// ends, and, where the same holds for it, by `TIOCEXCL`.
    pub(crate) fn open(
        path: &Path,
        settings: SerialSettings,
        keep_lines_at_close: bool,
        lines: Lines,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self> {
        // The library folds most errors into one, so the system's own answer is asked for first.
        // This descriptor stays open until the library has its own: closing the only one
        // would drop DTR for a moment.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let probe = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
            rustix::io::Errno::BUSY => in_use(path),
            other => present::missing(path, other.into()),
        })?;
        let doing = || format!("opening serial device {}", path.display());
        if !isatty(&probe) {
            let error = Error::invalid_argument("it is not a terminal device");
            return Err(error.with_hint("for a Unix socket write unix:///path").context(doing()));
        }
        if keep_lines_at_close {
            let set = tcgetattr(&probe).and_then(|mut settings| {
                settings.control_modes.remove(ControlModes::HUPCL);
                tcsetattr(&probe, OptionalActions::Now, &settings)
            });
            set.map_err(|errno| {
                Error::from(io::Error::from(errno)).context("clearing HUPCL").context(doing())
            })?;
        }
        let outlives_us = outlives_its_users(&probe);
        let baudrate = settings.baudrate.unwrap_or_default();
        let builder = tokio_serial::new(path.to_string_lossy(), baudrate).exclusive(!outlives_us);
        let stream = SerialStream::open(&builder).map_err(|error| match error.kind() {
            tokio_serial::ErrorKind::NoDevice => in_use(path),
            _ => Error::from(io::Error::from(error)).context(doing()),
        })?;
        if outlives_us {
            // The library has a lock that others may share.
            let lock = nix::fcntl::flock(stream.as_raw_fd(), FlockArg::LockExclusiveNonblock);
            lock.map_err(|errno| match errno {
                nix::errno::Errno::EWOULDBLOCK => in_use(path),
                other => Error::from(io::Error::from(other)).context("locking it").context(doing()),
            })?;
        }
        let mut tty = Self { stream: Some(stream), permit: Some(permit) };
        tty.configure(settings).context("configuring it").with_context(doing)?;
        tty.set_lines(lines)?;
        Ok(tty)
    }

    /// Changes the settings that are given.
    pub(crate) fn configure(&mut self, settings: SerialSettings) -> Result<()> {
        let stream = self.stream.as_mut().expect("only Drop takes the stream");
        let failed = |error| Error::from(io::Error::from(error));
        if let Some(rate) = settings.baudrate {
            stream.set_baud_rate(rate).map_err(failed).context("setting `baudrate`")?;
        }
        if let Some(bits) = settings.data_bits {
            let bits = match bits {
                5 => DataBits::Five,
                6 => DataBits::Six,
                7 => DataBits::Seven,
                _ => DataBits::Eight,
            };
            stream.set_data_bits(bits).map_err(failed).context("setting `data_bits`")?;
        }
        if let Some(parity) = settings.parity {
            let parity = match parity {
                SerialParity::None => Parity::None,
                SerialParity::Odd => Parity::Odd,
                SerialParity::Even => Parity::Even,
            };
            stream.set_parity(parity).map_err(failed).context("setting `parity`")?;
        }
        if let Some(bits) = settings.stop_bits {
            let bits = if bits == 2 { StopBits::Two } else { StopBits::One };
            stream.set_stop_bits(bits).map_err(failed).context("setting `stop_bits`")?;
        }
        if let Some(flow) = settings.flow_control {
            let flow = match flow {
                SerialFlowControl::None => FlowControl::None,
                SerialFlowControl::Software => FlowControl::Software,
                SerialFlowControl::Hardware => FlowControl::Hardware,
            };
            stream.set_flow_control(flow).map_err(failed).context("setting `flow_control`")?;
        }
        Ok(())
    }

    /// Begins or ends a break.
    pub(crate) fn set_break(&mut self, on: bool) -> Result<()> {
        let stream = self.stream.as_mut().expect("only Drop takes the stream");
        let done = if on { stream.set_break() } else { stream.clear_break() };
        done.map_err(|error| Error::from(io::Error::from(error)).context("sending a break"))
    }

    /// Sets the lines that are given.
    pub(crate) fn set_lines(&mut self, lines: Lines) -> Result<()> {
        let stream = self.stream.as_mut().expect("only Drop takes the stream");
        if let Some(level) = lines.dtr {
            stream.write_data_terminal_ready(level).map_err(|error| line_error("DTR", error))?;
        }
        if let Some(level) = lines.rts {
            stream.write_request_to_send(level).map_err(|error| line_error("RTS", error))?;
        }
        Ok(())
    }
}

/// Whether what is set on the terminal stays when its last user is killed: a pseudo-terminal lives
/// as long as its other end does, and `TIOCEXCL` would lock everybody out for so long.
fn outlives_its_users(terminal: &impl AsFd) -> bool {
    /// Linux's, for Unix98 pseudo-terminals.
    const PSEUDO_TERMINALS: std::ops::RangeInclusive<u32> = 136..=143;
    let is_pseudo =
        |stat: rustix::fs::Stat| PSEUDO_TERMINALS.contains(&rustix::fs::major(stat.st_rdev));
    !cfg!(target_os = "linux") || rustix::fs::fstat(terminal).is_ok_and(is_pseudo)
}

fn in_use(path: &Path) -> Error {
    let holders = present::holders(path);
    let by = match holders.is_empty() {
        true => "a process that this one cannot see".to_owned(),
        false => holders.join(", "),
    };
    Error::failed_precondition(format!("serial device {} is in use by {by}", path.display()))
        .with_hint("end that program, or let it use the exporter too")
}

fn line_error(line: &str, error: tokio_serial::Error) -> Error {
    // ENOTTY, as pseudo-terminals and gadgets without modem lines answer; the library keeps only
    // its description.
    if error.description.contains("typewriter") {
        return Error::unimplemented(format!("this terminal device has no {line} line"));
    }
    Error::from(io::Error::from(error)).context(format!("setting {line}"))
}

impl Drop for Tty {
    fn drop(&mut self) {
        let (stream, permit) = (self.stream.take(), self.permit.take());
        let close = move || {
            drop(stream);
            drop(permit);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(close)),
            Err(_) => close(),
        }
    }
}

impl fmt::Debug for Tty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tty").finish_non_exhaustive()
    }
}

impl Tty {
    fn stream(self: Pin<&mut Self>) -> Pin<&mut SerialStream> {
        Pin::new(self.get_mut().stream.as_mut().expect("only Drop takes the stream"))
    }
}

impl AsyncRead for Tty {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.stream().poll_read(cx, buf) {
            // The other end of a pseudo-terminal is going (once gone, reads return nothing), or the
            // adapter was pulled: the end, not a failure.
            Poll::Ready(Err(error))
                if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) =>
            {
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}

impl AsyncWrite for Tty {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, bytes)
    }

    /// Nothing: a write is in the kernel's queue at once, and waiting until the line has sent it
    /// would block.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Nothing: a terminal has no half-close.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
