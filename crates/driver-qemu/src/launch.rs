//! From a machine to its run: what is on disk before QEMU starts, its command line, its sockets.

use std::os::fd::{AsRawFd, OwnedFd};

use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::Command;
use tokio::net::UnixStream;

use crate::arguments::{Forward, Paths, SocketEnd, command_line};
use crate::disk::{Access, Disk, DiskFormat, QemuImage};
use crate::off_runtime::off_runtime;
use crate::run::{Launch, Run, Started};
use crate::seed::Seed;
use crate::status::RunNumber;
use crate::vm::{Inner, lock};

/// The VNC socket's name in the machine's folder.
pub(crate) const VNC_SOCKET: &str = "vnc.sock";

/// Starts QEMU for the machine.
pub(crate) async fn start(machine: &Inner, run: RunNumber) -> Result<Started> {
    let config = lock(&machine.config).clone();
    let mut disks = machine.storage.prepare(&config, &machine.facts).await?;
    let (seed, path) = (Seed::from(&config), machine.folder.join("seed.img"));
    let (seed, seed_files) = off_runtime(async move {
        seed.write(&path)?;
        Disk::open(&[QemuImage::with_format(path, DiskFormat::Raw)], Access::Read)
    })
    .await?;
    disks.files.extend(seed_files);
    let vnc = machine.folder.join(VNC_SOCKET);

    let (qmp, qemus_qmp) = socket_pair()?;
    let (console, qemus_console) = socket_pair()?;
    let paths = Paths {
        qmp: SocketEnd::Connected(qemus_qmp.as_raw_fd()),
        console: SocketEnd::Connected(qemus_console.as_raw_fd()),
        vnc,
        boot: disks.boot,
        root: disks.root,
        seed: Some(seed),
        vsock_cid: machine.vsock_cid,
    };
    let forwards: Vec<Forward> = machine
        .forwards
        .all
        .iter()
        .map(|forward| Forward { host: forward.address, guestport: forward.guestport })
        .collect();
    let arguments = command_line(&config, &machine.facts, &paths, &forwards);
    tracing::debug!(?arguments, binary = %machine.facts.binary.display(), "starting QEMU");
    let command = Command::new(&machine.facts.binary)
        .args(arguments)
        .current_dir(std::env::current_dir()?)
        .keep_fd(qemus_qmp)
        .keep_fd(qemus_console);
    let command = disks.files.into_iter().fold(command, Command::keep_fd);
    let destroyed = machine.destroyed.clone();
    Run::start(Launch { command, qmp, console, destroyed }, run, &machine.status, &config.timeouts).await
}

/// A connected pair of sockets: ours for Tokio, and QEMU's.
fn socket_pair() -> Result<(UnixStream, OwnedFd)> {
    let (ours, qemus) = std::os::unix::net::UnixStream::pair().context("making a socket")?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, OwnedFd::from(qemus)))
}
