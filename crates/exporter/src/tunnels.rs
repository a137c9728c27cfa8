//! Connections that a controller's router carries.

use std::sync::Arc;
use std::time::Duration;

use jumpstarter_driver_core::{Error, Result};
use jumpstarter_protocol::Transport;
use tokio_util::sync::CancellationToken;

use crate::Session;
use crate::connection::{self, End};
use crate::crowd::Origin;
use crate::peer::Peer;
use crate::windows::FAR_STREAM;

/// How long a tunnel may last without a call: clients open some that they never use.
const FIRST_CALL_LIMIT: Duration = Duration::from_secs(60);

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TunnelEnd {
    /// Its client or the end of the lease closed it, or it broke.
    Closed,
    /// It had no call for a minute.
    Silent,
}

/// Serves a session on tunnels. Clones are the same.
#[derive(Clone, Debug)]
pub struct Tunnels {
    pub(crate) session: Session,
    pub(crate) stop: CancellationToken,
}

impl Tunnels {
    /// Serves one tunnel until its client, or [`Server::stop`](crate::Server::stop), ends it. A
    /// tunnel without a call ends after a minute. Dropping the future cuts it off.
    ///
    /// # Errors
    /// `ResourceExhausted` if too many connections are open.
    pub async fn serve(&self, tunnel: impl Transport + 'static) -> Result<TunnelEnd> {
        let connections = &self.session.0.connections;
        let Some(place) = connections.crowd.enter(Origin::Unix).await else {
            return Err(Error::resource_exhausted("too many connections are open"));
        };
        let mut standing = connections.standing(place);
        standing.first_call_limit = FIRST_CALL_LIMIT;
        standing.largest_stream_window = FAR_STREAM;
        // The client of a tunnel may come later than the tunnel.
        standing.opening_limit = 2 * FIRST_CALL_LIMIT;
        let peer = Peer { address: None, is_hook: false, standing: Arc::new(standing) };
        let (session, stop) = (self.session.clone(), self.stop.clone());
        let serving = connection::serve(session, None, Box::new(tunnel), peer, stop);
        Ok(match connections.open.track_future(serving).await {
            Some(End::Stranger) => TunnelEnd::Silent,
            _ => TunnelEnd::Closed,
        })
    }
}

#[cfg(test)]
mod tests {
    use jumpstarter_driver_core::{Device, Driver};
    use tokio::time::Instant;

    use super::*;
    use crate::{Server, SessionOptions};

    struct Plain;
    impl Driver for Plain {}

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_without_a_call_is_silent_after_a_minute() {
        let session = Session::new(Device::of_driver(Plain), SessionOptions::default()).unwrap();
        let server = Server::new(&session);
        let (tunnel, mut client) = tokio::io::duplex(1 << 16);
        let began = Instant::now();
        let answers = tokio::spawn(async move {
            tokio::io::copy(&mut client, &mut tokio::io::sink()).await.unwrap();
        });
        let end = server.tunnels().serve(tunnel).await.unwrap();
        assert_eq!((end, began.elapsed().as_secs()), (TunnelEnd::Silent, 60));
        answers.await.unwrap();
        // A client that leaves by itself was not silent.
        let (tunnel, client) = tokio::io::duplex(1 << 16);
        drop(client);
        assert_eq!(server.tunnels().serve(tunnel).await.unwrap(), TunnelEnd::Closed);
    }
}
