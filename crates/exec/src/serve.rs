//! `serve`: listens, and runs a program for each connection.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use jumpstarter_files::SocketFile;
use jumpstarter_supervise::launcher::{ClientMessage, ServerMessage};
use rustix::fs::Mode;
use serde_json::json;
use tokio::io::BufReader;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::log::Log;
use crate::options::Options;
use crate::program::{self, Answers, read_line};

/// How many connections may be open; more wait to be accepted.
const CONNECTIONS: usize = 256;
/// How long a connection may take to say what it wants.
const ASKS_WITHIN: Duration = Duration::from_secs(30);
/// How long programs may take to end at the end.
const ENDS_WITHIN: Duration = Duration::from_secs(15);

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) log: Log,
    /// Cancelled when everything is to end.
    pub(crate) ending: CancellationToken,
    /// Programs that have ended, and left others.
    pub(crate) left: TaskTracker,
}

/// Runs until it is asked to end, or gets SIGTERM or SIGINT.
pub(crate) fn run(options: Options) -> io::Result<()> {
    // The exporter is another user: it has to reach the sockets that programs make.
    rustix::process::umask(Mode::empty());
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(options))
}

async fn serve(options: Options) -> io::Result<()> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (listener, file) = SocketFile::listen(&options.socket)?;
    std::fs::set_permissions(&options.socket, PermissionsExt::from_mode(0o666))?;
    let listener = UnixListener::from_std(listener)?;
    let shared = Arc::new(Shared {
        log: Log::new(options.format, options.debug, options.fields),
        ending: CancellationToken::new(),
        left: TaskTracker::new(),
    });
    let log = &shared.log;
    log.info("listening", &[("socket", json!(options.socket)), ("debug", json!(options.debug))]);

    let (connections, free) = (TaskTracker::new(), Arc::new(Semaphore::new(CONNECTIONS)));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &free) => accepted,
            () = shared.ending.cancelled() => break,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        };
        match accepted {
            Ok((connection, permit)) => {
                let shared = shared.clone();
                connections.spawn(async move {
                    if let Err(error) = serve_connection(connection, &shared).await {
                        let error = json!(error.to_string());
                        shared.log.error("connection error", &[("error", error)]);
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                log.error("accept error", &[("error", json!(error.to_string()))]);
                // Too many open files, for example.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    file.remove();
    drop(listener);
    shared.ending.cancel();
    connections.close();
    shared.left.close();
    let ended = async { tokio::join!(connections.wait(), shared.left.wait()) };
    if timeout(ENDS_WITHIN, ended).await.is_err() {
        log.error("programs still run", &[("waited_s", json!(ENDS_WITHIN.as_secs()))]);
    }
    log.info("shutdown complete", &[]);
    Ok(())
}

type Permit = tokio::sync::OwnedSemaphorePermit;

async fn accept(
    listener: &UnixListener,
    free: &Arc<Semaphore>,
) -> io::Result<(UnixStream, Permit)> {
    let permit = free.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (connection, _) = listener.accept().await?;
    Ok((connection, permit))
}

async fn serve_connection(connection: UnixStream, shared: &Arc<Shared>) -> io::Result<()> {
    let (from, to) = connection.into_split();
    let (mut from, answers) = (BufReader::new(from), Answers::new(to));
    let line = tokio::select! {
        line = timeout(ASKS_WITHIN, read_line(&mut from)) => line??,
        () = shared.ending.cancelled() => return Ok(()),
    };
    let Some(line) = line else {
        return Err(io::Error::other("client disconnected before sending a request"));
    };
    let refused = async |error: String| {
        answers.send(&ServerMessage::Error { message: error.clone() }).await.ok();
        Err(io::Error::other(error))
    };
    match ClientMessage::from_line(&line) {
        Ok(ClientMessage::Shutdown) => {
            shared.log.info("shutdown requested", &[]);
            let answered = answers.send(&ServerMessage::Exit { code: Some(0) }).await;
            shared.ending.cancel();
            answered
        }
        Ok(ClientMessage::Exec { argv, .. }) if argv.is_empty() => {
            refused("empty argv".into()).await
        }
        Ok(ClientMessage::Exec { argv, env, cwd }) => {
            program::run((argv, env, cwd), from, answers, shared).await
        }
        Ok(_) => refused("first message must be Exec or Shutdown".into()).await,
        Err(error) => refused(error.to_string()).await,
    }
}
