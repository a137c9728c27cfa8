//! Several listeners of one session: started separately, ended together.

use std::time::Duration;

use jumpstarter_driver_core::{Error, Result};
use tokio::task::{JoinError, JoinSet};

use crate::serve::{Door, Stop, serve_behind};
use crate::tunnels::Tunnels;
use crate::{Address, Listener, Session};

/// The time limit for connections that are cut off, which end much faster.
const CUT_LIMIT: Duration = Duration::from_secs(1);

/// Serves a session on listeners. Dropping it cuts every connection off, with the calls on it.
#[derive(Debug)]
pub struct Server {
    session: Session,
    addresses: Vec<Address>,
    stop: Stop,
    tasks: JoinSet<Result<()>>,
}

impl Server {
    /// Makes a server without listeners.
    pub fn new(session: &Session) -> Self {
        let (addresses, tasks) = (Vec::new(), JoinSet::new());
        Self { session: session.clone(), addresses, stop: Stop::default(), tasks }
    }

    /// Serves on one more listener.
    pub fn start(&mut self, listener: Listener, door: Door) {
        self.addresses.push(listener.address().clone());
        self.spawn(listener, door, self.stop.clone());
    }

    /// Serves on a listener that only this exporter's hooks know: their calls pass during a hook,
    /// and new connections are accepted until [`stop`](Self::stop).
    pub fn start_for_hooks(&mut self, listener: Listener) {
        let stop = Stop { accepting: self.stop.serving.clone(), ..self.stop.clone() };
        self.spawn(listener, Door::for_hooks(), stop);
    }

    fn spawn(&mut self, listener: Listener, door: Door, stop: Stop) {
        self.tasks.spawn(serve_behind(self.session.clone(), listener, door, stop));
    }

    /// Serves connections that something else accepted: the tunnels of a lease.
    pub fn tunnels(&self) -> Tunnels {
        Tunnels { session: self.session.clone(), stop: self.stop.serving.clone() }
    }

    /// The addresses in the order of their starts, without the hooks' listener.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Waits until a listener fails; for ever without listeners.
    pub async fn failed(&mut self) -> Error {
        match self.tasks.join_next().await {
            Some(ended) => flatten(ended)
                .err()
                .unwrap_or_else(|| Error::internal("a listener ended by itself")),
            None => std::future::pending().await,
        }
    }

    /// Accepts no new clients; connected ones are still served.
    pub fn stop_accepting(&self) {
        self.stop.accepting.cancel();
    }

    /// Accepts no new calls, ends running ones as [`Session::shut_down`] does, and waits for their
    /// ends; calls that outlast `grace` are cut off. Afterwards no connection is left.
    pub async fn stop(mut self, grace: impl Future<Output = ()>) {
        self.stop_accepting();
        self.stop.serving.cancel();
        self.session.shut_down();
        tokio::select! {
            () = all_ended(&mut self.tasks) => {}
            () = grace => {}
        }
        self.tasks.shutdown().await;
        let connections = &self.session.0.connections.open;
        connections.close();
        if tokio::time::timeout(CUT_LIMIT, connections.wait()).await.is_err() {
            tracing::warn!(connections = connections.len(), "some connections are still open");
        }
    }
}

async fn all_ended(tasks: &mut JoinSet<Result<()>>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = flatten(ended) {
            tracing::warn!(error = error.report(), "a listener failed");
        }
    }
}

fn flatten(outcome: std::result::Result<Result<()>, JoinError>) -> Result<()> {
    outcome
        .unwrap_or_else(|error| Err(Error::internal("a listener's task ended").with_source(error)))
}
