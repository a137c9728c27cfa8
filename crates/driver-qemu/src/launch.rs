//! Prepares a machine's run: the files on disk, the command line and the sockets.

use std::os::fd::{AsRawFd, OwnedFd};

use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::Command;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::arguments::{Forward, Paths, command_line};
use crate::config::QemuConfig;
use crate::disk::{Access, Disk, DiskFormat, QemuImage};
use crate::host::ENVIRONMENT;
use crate::lock::lock;
use crate::off_runtime::off_runtime;
use crate::parts::Parts;
use crate::run::{Launch, Run, Started};
use crate::seed::Seed;
use crate::status::RunNumber;
use crate::storage::Disks;

/// The VNC socket's name in the machine's folder.
pub(crate) const VNC_SOCKET: &str = "vnc.sock";

/// Starts QEMU for the machine.
pub(crate) async fn start(machine: &Parts, run: RunNumber) -> Result<Started> {
    let config = lock(&machine.config).clone();
    machine.forwards.check_free()?;
    let within = config.timeouts.start;
    let (disks, seed) = tokio::select! {
        biased;
        () = machine.destroyed.cancelled() => return Err(Error::failed_precondition("the machine is destroyed")),
        prepared = timeout(within.as_duration(), prepare(machine, &config)) => prepared.map_err(|_| {
            Error::deadline_exceeded(format!("its disks were not ready within {within}"))
                .with_hint("see that their file system answers, or raise `timeouts.start`")
        })??,
    };
    let vnc = machine.folders.sockets().join(VNC_SOCKET);

    let (qmp, qemus_qmp) = socket_pair()?;
    let (console, qemus_console) = socket_pair()?;
    let paths = Paths {
        qmp: qemus_qmp.as_raw_fd(),
        console: qemus_console.as_raw_fd(),
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
        .map(|forward| Forward {
            protocol: forward.protocol,
            host: forward.address,
            guestport: forward.guest_port,
        })
        .collect();
    let arguments = command_line(&config, &machine.facts, &paths, &forwards);
    tracing::debug!(?arguments, binary = %machine.facts.binary.display(), "starting QEMU");
    let command = Command::new(&machine.facts.binary)
        .args(arguments)
        .env_only(ENVIRONMENT)
        .keep_fd(qemus_qmp)
        .keep_fd(qemus_console);
    let command = disks.files.into_iter().fold(command, Command::keep_fd);
    let destroyed = machine.destroyed.clone();
    Run::start(Launch { command, qmp, console, destroyed }, run, &machine.status, &config.timeouts)
        .await
}

/// Prepares the disks, and that of cloud-init.
async fn prepare(machine: &Parts, config: &QemuConfig) -> Result<(Disks, Disk)> {
    machine.folders.ensure().await?;
    let mut disks = machine.storage.prepare(config, &machine.facts).await?;
    let (seed, path) = (Seed::from(config), machine.folders.sockets().join("seed.img"));
    let (seed, seed_files) = off_runtime(async move {
        seed.write(&path)?;
        Disk::open(&[QemuImage::with_format(path, DiskFormat::Raw)], Access::Read)
    })
    .await?;
    disks.files.extend(seed_files);
    Ok((disks, seed))
}

/// A connected pair of sockets: one for Tokio, and one for QEMU.
fn socket_pair() -> Result<(UnixStream, OwnedFd)> {
    let (ours, qemus) = std::os::unix::net::UnixStream::pair().context("making a socket")?;
    ours.set_nonblocking(true).context("making a socket")?;
    Ok((UnixStream::from_std(ours).context("making a socket")?, OwnedFd::from(qemus)))
}
