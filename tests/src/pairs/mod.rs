//! The suite of a lab: an exporter and a client, each ours or upstream's in Python, on the
//! controller of the tests. The pair is a parameter; the parts are the same for all of them, and
//! both clients are called with the same words.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jumpstarter_driver_core::prelude::*;

mod leasing;
mod station;
mod streams;
mod using;

pub use station::Station;
pub use streams::streams;

/// For one step, on a busy host.
const LIMIT: Duration = Duration::from_secs(120);
/// How often something is looked at that nothing announces.
const LOOK: Duration = Duration::from_millis(20);

/// Whose program an exporter or a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Peer {
    /// This project's.
    Ours,
    /// Upstream's.
    Python,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Peer::Ours => "ours",
            Peer::Python => "Python",
        })
    }
}

/// An exporter and a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// The exporter.
    pub exporter: Peer,
    /// The client.
    pub client: Peer,
}

impl Pair {
    /// The one that needs no Python.
    pub const OURS: Pair = Pair { exporter: Peer::Ours, client: Peer::Ours };
    /// Those that need Python.
    pub const WITH_PYTHON: [Pair; 3] = [
        Pair { exporter: Peer::Ours, client: Peer::Python },
        Pair { exporter: Peer::Python, client: Peer::Ours },
        Pair { exporter: Peer::Python, client: Peer::Python },
    ];
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exporter {}, client {}", self.exporter, self.client)
    }
}

/// One part of the suite. Each leaves the exporter without a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// A lease is made, listed and deleted; the next one waits for it.
    Lease,
    /// Driver calls, a refused one, and the exit code of the shell's command.
    Calls,
    /// Byte streams, several at the same time, and a stream of values.
    Streams,
    /// A serial console.
    Console,
    /// An image of 256 MiB is flashed, dumped and compared.
    Flash,
    /// Local ports and sockets lead to the device.
    Forwards,
    /// Hooks run once, in order, with the names of the lease; the client shows their output.
    Hooks,
    /// A lease ends at its time, and the shell with it.
    Expiry,
    /// A lease goes to another client.
    Transfer,
    /// Ctrl-C, an administrator and the exporter's end release a lease.
    Release,
}

impl Part {
    /// All parts, in their order: after the last one, the exporter has ended.
    pub const ALL: [Part; 10] = [
        Part::Lease,
        Part::Calls,
        Part::Streams,
        Part::Console,
        Part::Flash,
        Part::Forwards,
        Part::Hooks,
        Part::Expiry,
        Part::Transfer,
        Part::Release,
    ];

    /// Runs it, and says what is worth knowing about it.
    ///
    /// # Errors
    /// What does not hold.
    pub async fn run(self, station: &Station<'_>) -> Result<String> {
        let ran = match self {
            Part::Lease => leasing::lease(station).await,
            Part::Calls => using::calls(station).await,
            Part::Streams => using::streams(station).await,
            Part::Console => using::console(station).await,
            Part::Flash => using::flash(station).await,
            Part::Forwards => using::forwards(station).await,
            Part::Hooks => leasing::hooks(station).await,
            Part::Expiry => leasing::expiry(station).await,
            Part::Transfer => leasing::transfer(station).await,
            Part::Release => leasing::release(station).await,
        };
        ran.with_context(|| {
            format!(
                "{self:?} with {}; the exporter said:\n{}\n",
                station.pair(),
                station.last_words()
            )
        })
    }
}

/// Where the programs of both are.
#[derive(Debug)]
pub struct Programs {
    ours: tempfile::TempDir,
    python: Option<PathBuf>,
}

impl Programs {
    /// `lab` is the program of this package that is `jmp`, `j` and `streams` under these names;
    /// `python` is the virtual environment, if there is one.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn new(lab: &Path, python: Option<PathBuf>) -> Result<Self> {
        let ours = tempfile::tempdir()?;
        for name in ["jmp", "j", "streams"] {
            std::os::unix::fs::symlink(lab, ours.path().join(name))?;
        }
        let python = python.map(std::path::absolute).transpose()?;
        Ok(Self { ours, python })
    }

    /// The folder with `jmp` and `j` of a peer.
    fn of(&self, peer: Peer) -> Result<PathBuf> {
        let python = || Error::failed_precondition("there is no environment with Python's peers");
        match peer {
            Peer::Ours => Ok(self.ours.path().to_owned()),
            Peer::Python => Ok(self.python.as_ref().ok_or_else(python)?.join("bin")),
        }
    }
}

/// Fails with what does not hold.
fn promise(holds: bool, what: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::internal(what())) }
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let began = Instant::now();
    while !holds() {
        promise(began.elapsed() < LIMIT, || format!("waited in vain: {what}"))?;
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}
