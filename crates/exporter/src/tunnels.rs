//! Connections that a controller's router carries.

use std::sync::Arc;
use std::time::Duration;

use jumpstarter_driver_core::{Error, Result};
use jumpstarter_protocol::Transport;
use tokio_util::sync::CancellationToken;

use crate::crowd::Origin;
use crate::peer::Peer;
use crate::{Session, connection};

/// How long a tunnel may last without a call: clients open some that they never use.
const FIRST_CALL_LIMIT: Duration = Duration::from_secs(60);

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
    pub async fn serve(&self, tunnel: impl Transport + 'static) -> Result<()> {
        let connections = &self.session.0.connections;
        let Some(place) = connections.crowd.enter(Origin::Unix).await else {
            return Err(Error::resource_exhausted("too many connections are open"));
        };
        let mut standing = connections.standing(place);
        standing.first_call_limit = FIRST_CALL_LIMIT;
        let peer = Peer { address: None, is_hook: false, standing: Arc::new(standing) };
        let (session, stop) = (self.session.clone(), self.stop.clone());
        let serving = connection::serve(session, None, Box::new(tunnel), peer, stop);
        connections.open.track_future(serving).await;
        Ok(())
    }
}
