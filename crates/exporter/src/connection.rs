//! One accepted connection: its peer, its time limits, and the calls on it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jumpstarter_protocol::http2::{GoAway, ServerConnection};
use jumpstarter_protocol::{Method, Transport};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::layers::Passphrase;
use crate::peer::{Peer, Running, Standing};
use crate::watched::Watched;
use crate::windows::{MAX_STREAMS, MIN_CONNECTION, Windows};
use crate::{Session, grpc};

/// How long the reason for the end may take to be sent.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);
/// Ends a connection's membership when its serving ends in any way.
struct Open(Arc<Standing>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.membership.close();
        if let Some(place) = &self.0.place {
            place.leave();
        }
    }
}

/// Why the exporter ends a connection.
pub(crate) enum End {
    /// Other connections without a call need its place.
    CrowdedOut,
    /// It made no admitted call in time.
    Stranger,
    /// Its messages take the most memory of all connections, and no memory is left.
    Memory,
    /// It sends too many frames without data.
    Flood,
}

impl End {
    async fn of(standing: Arc<Standing>, flooded: Arc<Notify>) -> Self {
        let stranger = async {
            tokio::time::sleep_until(standing.opened + standing.first_call_limit).await;
            if !standing.membership.is_stranger() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = standing.crowded_out() => Self::CrowdedOut,
            () = stranger => Self::Stranger,
            () = standing.budget.revoked() => Self::Memory,
            () = flooded.notified() => Self::Flood,
        }
    }

    fn note(&self, session: &Session, peer: &Peer) {
        if !session.0.connections.crowd.may_speak() {
            return;
        }
        let address = peer.address.map(|address| address.to_string()).unwrap_or_default();
        match self {
            Self::CrowdedOut => {
                tracing::info!(address, "a connection without a call is ended: there are too many");
            }
            Self::Stranger => {
                let limit = peer.standing.first_call_limit.as_secs();
                tracing::info!(
                    address,
                    "a connection is ended: no call was admitted within {limit} s"
                );
            }
            Self::Memory => {
                let held = peer.standing.budget.held_bytes();
                tracing::warn!(
                    address,
                    held,
                    "a connection is ended: its unread messages take too much memory"
                );
            }
            Self::Flood => {
                tracing::warn!(
                    address,
                    "a connection is ended: its client floods it with empty frames"
                );
            }
        }
    }

    fn reason(&self) -> GoAway {
        match self {
            Self::CrowdedOut | Self::Stranger => GoAway::NoError,
            Self::Memory | Self::Flood => GoAway::EnhanceYourCalm,
        }
    }
}

/// Serves a connection until its client ends it, or, after `stop`, until its calls have ended.
/// Dropping the future cuts it off, with the calls on it. Returns the reason if the exporter ended
/// it.
pub(crate) async fn serve(
    session: Session,
    passphrase: Option<Passphrase>,
    transport: Box<dyn Transport>,
    peer: Peer,
    stop: CancellationToken,
) -> Option<End> {
    let standing = peer.standing.clone();
    let _open = Open(standing.clone());
    let mut windows = Windows::new(standing.largest_stream_window);
    let watched = Watched::opening_within(standing.opening_limit, transport);
    let end = End::of(standing.clone(), watched.flooded());
    tokio::pin!(end);
    let handshake = ServerConnection::open(watched, windows.stream(), MIN_CONNECTION, MAX_STREAMS);
    let opened = tokio::select! {
        opened = handshake => opened,
        end = &mut end => {
            end.note(&session, &peer);
            return Some(end);
        }
        () = stop.cancelled() => return None,
    };
    let mut connection = match opened {
        Ok(connection) => connection,
        Err(error) => {
            tracing::debug!(%error, "a client does not speak HTTP/2");
            return None;
        }
    };
    // Memory for this client's data, once it has an admitted call.
    let mut promise = None;
    let mut is_admitted = false;
    let mut stopping = false;
    loop {
        let streams = || standing.streams.load(Ordering::Relaxed);
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    // Requests of other calls are read at once.
                    let is_stream = request.uri().path() == Method::Stream.path();
                    let running = is_stream.then(|| Running::new(&standing));
                    if running.is_some() {
                        windows.adapt(&mut connection, streams());
                    }
                    let call = grpc::answer(session.clone(), passphrase.clone(), peer.clone(), request, respond);
                    session.0.connections.open.spawn(async move {
                        call.await;
                        drop(running);
                    });
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "a connection broke");
                    return None;
                }
                None => return None,
            },
            () = standing.admitted.notified(), if !is_admitted => {
                is_admitted = true;
                let bytes = session.0.connections.half_bytes;
                promise = session.0.connections.windows.make(bytes);
                if promise.is_some() {
                    windows.widen(&mut connection, bytes, streams());
                }
            }
            () = windows.pause() => windows.adapt(&mut connection, streams()),
            end = &mut end => {
                end.note(&session, &peer);
                if !matches!(end, End::CrowdedOut) {
                    // Whether the client receives it changes nothing.
                    let farewell = connection.abort(end.reason());
                    drop(tokio::time::timeout(FAREWELL_LIMIT, farewell).await);
                }
                drop(promise);
                return Some(end);
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                connection.finish();
            }
        }
    }
}
