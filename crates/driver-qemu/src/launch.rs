//! Prepares a machine's run: the files on disk, the command line and the sockets.

use std::os::fd::{AsRawFd, OwnedFd};

use jumpstarter_driver_core::prelude::*;
use jumpstarter_files::SocketFile;
use jumpstarter_supervise::Command;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::arguments::{Forward, Paths, SocketEnd, command_line};
use crate::config::QemuConfig;
use crate::disk::{Access, Disk, DiskFormat, QemuImage};
use crate::folders::Folders;
use crate::host::Place;
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

    let mut files = disks.files;
    let socket = |name: &str| Connection::make(&machine.facts.place, &machine.folders, name);
    let ((qmp, qemus_qmp, kept), (console, qemus_console, also_kept)) =
        (socket("qmp.sock")?, socket("console.sock")?);
    files.extend(kept.into_iter().chain(also_kept));
    let paths = Paths {
        qmp: qemus_qmp,
        console: qemus_console,
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
    let command = machine.facts.place.command(&machine.facts.binary).args(arguments);
    let command = files.into_iter().fold(command, Command::keep_fd);
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
    if machine.facts.place != Place::Here {
        return Ok((disks, seed.by_path()));
    }
    disks.files.extend(seed_files);
    Ok((disks, seed))
}

/// This program's end of a connection with QEMU.
pub(crate) enum Connection {
    /// QEMU inherits the other end.
    Made(UnixStream),
    /// QEMU, in a sidecar, connects when it starts. The socket's file is removed then.
    Awaited(UnixListener, SocketFile),
}

impl Connection {
    /// Makes it, with QEMU's end, and what QEMU has to inherit for it.
    fn make(
        place: &Place,
        folders: &Folders,
        name: &str,
    ) -> Result<(Self, SocketEnd, Option<OwnedFd>)> {
        let doing = "making a socket";
        if *place != Place::Here {
            let path = folders.sockets().join(name);
            let (listener, file) = SocketFile::listen(&path).context(doing)?;
            let listener = UnixListener::from_std(listener).context(doing)?;
            return Ok((Self::Awaited(listener, file), SocketEnd::ConnectTo(path), None));
        }
        let (ours, qemus) = std::os::unix::net::UnixStream::pair().context(doing)?;
        ours.set_nonblocking(true).context(doing)?;
        let ours = UnixStream::from_std(ours).context(doing)?;
        let end = SocketEnd::Inherited(qemus.as_raw_fd());
        Ok((Self::Made(ours), end, Some(qemus.into())))
    }

    /// Waits until QEMU is connected.
    pub(crate) async fn established(self) -> Result<UnixStream> {
        match self {
            Self::Made(stream) => Ok(stream),
            Self::Awaited(listener, _file) => {
                let (stream, _) = listener.accept().await.context("waiting for QEMU to connect")?;
                Ok(stream)
            }
        }
    }
}
