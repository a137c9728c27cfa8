//! `jmp shell` for a device of an exporter file: the device is served for as long as a command
//! runs.

use std::path::PathBuf;

use jumpstarter_config::ExporterConfig;
use jumpstarter_driver_core::{Error, ErrorKind, Result};
use jumpstarter_protocol::v1::ExporterStatus;

use crate::lease::Lease;
use crate::private_socket::PrivateSocket;
use crate::run::{Servers, close, for_hooks, open};
use crate::serve::Door;
use crate::signals::Signals;
use crate::{Limits, LogHub, Session};

/// A device that is served, as the command finds it.
#[derive(Clone, Debug)]
pub struct Served {
    /// The Unix socket at which it is served to this user.
    pub socket: PathBuf,
    /// The exporter's name, where the file gives one.
    pub name: Option<String>,
    /// What is shown on entering a shell.
    pub motd: Option<String>,
}

/// Opens the device of a file, serves it at a private socket, runs `command` between the lease's
/// hooks, and closes it.
///
/// Until `command` is called and after it has answered, SIGTERM, SIGINT, SIGHUP and SIGQUIT cancel
/// what is under way; while it runs they are its own business. From then on, of this process's log
/// only warnings and errors go to standard error, unless `logs` says [otherwise](LogHub::show_all).
/// Should the device cease to be served meanwhile, that is logged at once, and the command goes on.
///
/// # Errors
/// What opening and closing the device failed with, that of a hook that forbids to go on, and the
/// command's own.
pub async fn shell<F>(
    config: &ExporterConfig,
    logs: &LogHub,
    command: impl FnOnce(Served) -> F,
) -> Result<u8>
where
    F: Future<Output = Result<u8>>,
{
    let mut signals = Signals::new()?;
    let session = tokio::select! {
        session = open(config, logs, Limits::default()) => session?,
        name = signals.next() => {
            return Err(Error::new(ErrorKind::Cancelled, format!("{name} while the device was opened")));
        }
    };
    let outcome = serve(config, logs, &session, command).await;
    // Those that came while the command ran were the command's.
    let mut signals = Signals::new()?;
    let closed = close(&session, &mut signals).await;
    outcome.and_then(|code| closed.map(|()| code))
}

async fn serve<F>(
    config: &ExporterConfig,
    logs: &LogHub,
    session: &Session,
    command: impl FnOnce(Served) -> F,
) -> Result<u8>
where
    F: Future<Output = Result<u8>>,
{
    let mut signals = Signals::new()?;
    let (private, mut listeners) = PrivateSocket::new().await?;
    let hooks = &config.settings.hooks;
    // The command must not reach the device while a hook runs.
    let (hook_socket, hook_listeners) = for_hooks(hooks).await?.unzip();
    let mut lease = Lease::new(session, hooks, hook_socket.as_ref());
    let mut servers = Servers::new(session);
    private.ensure().await?;
    if let Some(listener) = listeners.recv().await {
        servers.start(listener, Door::default());
    }
    if let (Some(socket), Some(listeners)) = (&hook_socket, hook_listeners) {
        servers.start_for_hooks(listeners);
        socket.ensure().await?;
    }
    let begun = tokio::select! {
        begun = lease.begin() => begun,
        name = signals.next() => Err(Error::new(ErrorKind::Cancelled, format!("{name} while the device was prepared"))),
    };
    let mut outcome = match begun {
        Ok(()) if session.state().get().status == ExporterStatus::LeaseReady => {
            let settings = &config.settings;
            let name = Some(settings.metadata.name.clone()).filter(|name| !name.is_empty());
            let motd = Some(session.motd()).filter(|motd| !motd.is_empty());
            let served = Served { socket: private.path().to_owned(), name, motd };
            logs.set_quiet(true);
            // Still quiet when the command has ended: its user has the terminal back.
            attend(command(served), &mut servers).await
        }
        Ok(()) => Err(Error::failed_precondition(session.state().get().message)),
        Err(error) => Err(error),
    };
    let mut signals = Signals::new()?;
    let finished = tokio::select! {
        finished = lease.finish() => finished,
        name = signals.next() => Err(Error::new(ErrorKind::Cancelled, format!("{name} during the afterLease hook"))),
    };
    if let Err(error) = finished {
        outcome = outcome.and(Err(error));
    }
    servers.stop(&mut signals).await;
    outcome
}

/// Waits for the command, and tells when the device is not served any more.
async fn attend(command: impl Future<Output = Result<u8>>, servers: &mut Servers) -> Result<u8> {
    tokio::pin!(command);
    let failed = tokio::select! {
        code = &mut command => return code,
        failed = servers.failed() => failed,
    };
    tracing::error!(error = %failed.report(), "the device is not served any more: the command no longer reaches it");
    command.await
}
