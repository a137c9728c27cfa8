//! `jmp shell` for a device of an exporter file: serves the device while a command runs.

use std::path::PathBuf;

use jumpstarter_config::ExporterConfig;
use jumpstarter_driver_core::{Error, Result};
use jumpstarter_exporter::{Door, Limits, Server, Session};
use jumpstarter_protocol::v1::ExporterStatus;

use crate::Log;
use crate::lease::Lease;
use crate::private_socket::PrivateSocket;
use crate::run::{close, for_hooks, open, stop};
use crate::signals::Signals;

/// A served device, for the command.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Served {
    /// The Unix socket at which this user reaches it.
    pub socket: PathBuf,
    /// The exporter's name, if the file has one.
    pub name: Option<String>,
    /// The message for people who enter a shell.
    pub motd: Option<String>,
}

/// Opens the device of a file, serves it at a private socket, runs `command` between the lease's
/// hooks, and closes it.
///
/// Before `command` is called and after it has returned, SIGTERM, SIGINT, SIGHUP and SIGQUIT cancel
/// the running step; the command handles them itself. While it runs, only warnings and errors of
/// this process's log go to standard error, unless `log` [shows all](Log::show_all). If serving
/// fails meanwhile, that is logged at once, and the command continues.
///
/// # Errors
/// The errors of opening and closing the device, of a hook that ends the lease, and of the command.
pub async fn shell<F>(
    config: &ExporterConfig,
    log: &Log,
    command: impl FnOnce(Served) -> F,
) -> Result<u8>
where
    F: Future<Output = Result<u8>>,
{
    let mut signals = Signals::new()?;
    let session = tokio::select! {
        session = open(config, log.hub(), Limits::default()) => session?,
        name = signals.next() => {
            return Err(Error::cancelled(format!("{name} while the device was opened")));
        }
    };
    let outcome = serve(config, log, &session, command).await;
    // Signals that arrived while the command ran were the command's.
    let mut signals = Signals::new()?;
    let closed = close(&session, &mut signals).await;
    outcome.and_then(|code| closed.map(|()| code))
}

async fn serve<F>(
    config: &ExporterConfig,
    log: &Log,
    session: &Session,
    command: impl FnOnce(Served) -> F,
) -> Result<u8>
where
    F: Future<Output = Result<u8>>,
{
    let mut signals = Signals::new()?;
    let (private, listener) = PrivateSocket::new().await?;
    let hooks = &config.settings.hooks;
    // The command must not reach the device while a hook runs.
    let (hook_socket, hook_listener) = for_hooks(hooks).await?.unzip();
    let mut lease = Lease::new(session, hooks, hook_socket.as_ref());
    let mut server = Server::new(session);
    server.start(listener, Door::default());
    if let Some(listener) = hook_listener {
        server.start_for_hooks(listener);
    }
    let begun = tokio::select! {
        begun = lease.begin() => begun,
        name = signals.next() => Err(Error::cancelled(format!("{name} while the device was prepared"))),
    };
    let mut outcome = match begun {
        Ok(()) if session.state().get().status == ExporterStatus::LeaseReady => {
            let settings = &config.settings;
            let name = Some(settings.metadata.name.clone()).filter(|name| !name.is_empty());
            let motd = Some(session.motd()).filter(|motd| !motd.is_empty());
            let served = Served { socket: private.path().to_owned(), name, motd };
            log.set_quiet(true);
            // Still quiet when the command has ended: its user has the terminal back.
            attend(command(served), &mut server).await
        }
        Ok(()) => Err(Error::failed_precondition(session.state().get().message)),
        Err(error) => Err(error),
    };
    let mut signals = Signals::new()?;
    let finished = tokio::select! {
        finished = lease.finish() => finished,
        name = signals.next() => Err(Error::cancelled(format!("{name} during the afterLease hook"))),
    };
    if let Err(error) = finished {
        outcome = outcome.and(Err(error));
    }
    stop(server, &mut signals).await;
    outcome
}

/// Waits for the command, and logs if the device is not served any more.
async fn attend(command: impl Future<Output = Result<u8>>, server: &mut Server) -> Result<u8> {
    tokio::pin!(command);
    let failed = tokio::select! {
        code = &mut command => return code,
        failed = server.failed() => failed,
    };
    tracing::error!(error = %failed.report(), "the device is not served any more: the command no longer reaches it");
    command.await
}
