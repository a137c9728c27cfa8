//! From a connection to its answers.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jumpstarter_files::ConfinedFolder;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::answer::answer;
use crate::idle::Idle;

/// The largest head of a request, in bytes.
const MAX_REQUEST: usize = 16 * 1024;
/// The most connections at a time; more wait.
const MAX_CONNECTIONS: usize = 256;
/// The pause after a failure to accept a connection.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Answers requests until it is dropped, which ends its connections.
pub(crate) async fn serve(listener: TcpListener, folder: Arc<ConfinedFolder>, timeout: Duration) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(converse(stream, folder.clone(), timeout));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, folder: Arc<ConfinedFolder>, timeout: Duration) {
    let service = service_fn(|request| {
        let folder = folder.clone();
        async move { Ok::<_, Infallible>(answer(&request, folder).await) }
    });
    let answered = http1::Builder::new()
        .half_close(true)
        .max_buf_size(MAX_REQUEST)
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .serve_connection(TokioIo::new(Idle::new(stream, timeout)), service);
    if let Err(error) = answered.await {
        tracing::debug!(%error, "a connection ended early");
    }
}
