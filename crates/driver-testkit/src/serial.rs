//! The device's side of a serial port: a pseudo-terminal's master; and channels that end in time.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which panic")]

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use jumpstarter_driver_core::Channel;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

/// Generous: a loaded machine is no failure.
pub const LONG: Duration = Duration::from_secs(30);

/// A pseudo-terminal: the driver opens `path`, the test is the device. Panics where it fails.
#[derive(Debug)]
pub struct Pty {
    /// The device's side.
    pub master: AsyncFd<OwnedFd>,
    /// The port.
    pub path: PathBuf,
}

impl Pty {
    /// Makes one.
    pub fn open() -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK).unwrap();
        let path = PathBuf::from(ptsname(&master, Vec::new()).unwrap().into_string().unwrap());
        #[expect(
            deprecated,
            reason = "the replacement is unsafe; an OwnedFd that is never replaced meets its contract"
        )]
        let master = AsyncFd::new(master).unwrap();
        Self { master, path }
    }

    /// Reads exactly `count` bytes of what was written to the port.
    pub async fn read(&self, count: usize) -> Vec<u8> {
        let mut got = Vec::new();
        let reading = async {
            while got.len() < count {
                let mut ready = self.master.readable().await.unwrap();
                let mut buffer = vec![0; count - got.len()];
                match ready.try_io(|fd| {
                    rustix::io::read(fd.get_ref(), &mut buffer[..]).map_err(io::Error::from)
                }) {
                    Ok(Ok(length)) => got.extend_from_slice(&buffer[..length]),
                    Ok(Err(error)) => panic!("reading from the master: {error}"),
                    Err(_would_block) => {}
                }
            }
        };
        let done = timeout(LONG, reading).await;
        assert!(done.is_ok(), "only {got:?} arrived at the master");
        got
    }

    /// Reads what there is; nothing after the end.
    pub async fn read_some(&self) -> Vec<u8> {
        loop {
            let mut ready = self.master.readable().await.unwrap();
            let mut buffer = vec![0; 4096];
            let read = ready.try_io(|fd| {
                rustix::io::read(fd.get_ref(), &mut buffer[..]).map_err(io::Error::from)
            });
            match read {
                Ok(Ok(length)) => return buffer[..length].to_vec(),
                Ok(Err(_)) => return Vec::new(),
                Err(_would_block) => {}
            }
        }
    }

    /// Says something as the device.
    pub async fn write(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let mut ready = timeout(LONG, self.master.writable()).await.unwrap().unwrap();
            match ready.try_io(|fd| rustix::io::write(fd.get_ref(), bytes).map_err(io::Error::from))
            {
                Ok(length) => bytes = &bytes[length.unwrap()..],
                Err(_would_block) => {}
            }
        }
    }
}

/// Receives exactly `count` bytes.
pub async fn receive(channel: &mut Channel, count: usize) -> Vec<u8> {
    let mut got = Vec::new();
    while got.len() < count {
        let frame = timely(channel.receive()).await.unwrap();
        got.extend_from_slice(&frame.unwrap_or_else(|| panic!("the channel ended after {got:?}")));
    }
    assert_eq!(got.len(), count, "more arrived: {got:?}");
    got
}

/// Waits for the end of a channel.
pub async fn ended(channel: &mut Channel) {
    while let Some(frame) = timely(channel.receive()).await.unwrap() {
        drop(frame);
    }
}

/// The output of what has to end by itself, well before [`LONG`]: a mere timeout would also poll it
/// a last time.
pub async fn timely<F: Future>(future: F) -> F::Output {
    let start = std::time::Instant::now();
    let output = timeout(LONG, future).await.expect("an end in time");
    assert!(start.elapsed() < LONG, "only the deadline woke it");
    output
}
