//! The tunnels of a lease: each that the controller names is joined at once.

use std::convert::Infallible;
use std::time::Duration;

use jumpstarter_controller::{Controller, Pauses, Refusal};
use jumpstarter_driver_core::{Result, Secret};
use jumpstarter_exporter::{TunnelEnd, Tunnels};
use jumpstarter_protocol::rpc::controller::Listen;
use jumpstarter_protocol::v1::{ListenRequest, ListenResponse};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::counted::Counted;

/// Joins the tunnels of a lease until `closing`, and returns when they have ended. Dropping the
/// future cuts them off. `listens` becomes true once the controller has the first request.
pub(super) async fn listen(
    controller: Controller,
    counted: Counted,
    lease: String,
    tunnels: Tunnels,
    listens: watch::Sender<bool>,
    closing: CancellationToken,
) {
    let mut joined = JoinSet::new();
    tokio::select! {
        never = join_each(&controller, &counted, &lease, &tunnels, &mut joined, &listens) => match never {},
        () = closing.cancelled() => {}
    }
    while joined.join_next().await.is_some() {}
}

async fn join_each(
    controller: &Controller,
    counted: &Counted,
    lease: &str,
    tunnels: &Tunnels,
    joined: &mut JoinSet<()>,
    listens: &watch::Sender<bool>,
) -> Infallible {
    let mut pauses = Pauses::new(Duration::from_millis(200), Duration::from_secs(10));
    loop {
        let ended = read(controller, counted, lease, tunnels, joined, listens, &mut pauses).await;
        match ended {
            Ok(()) => tracing::debug!("the controller ended the stream of tunnels"),
            Err(error) => {
                tracing::debug!(error = error.report(), "the stream of tunnels broke");
                if Refusal::of(&error) == Some(Refusal::Missing) {
                    // The lease is over: `Status` says so, too.
                    pauses.wait().await;
                }
            }
        }
        pauses.wait().await;
    }
}

async fn read(
    controller: &Controller,
    counted: &Counted,
    lease: &str,
    tunnels: &Tunnels,
    joined: &mut JoinSet<()>,
    listens: &watch::Sender<bool>,
    pauses: &mut Pauses,
) -> Result<()> {
    let request = ListenRequest { lease_name: lease.to_owned() };
    let mut stream = controller.follow::<Listen>(&request).await?;
    listens.send_replace(true);
    while let Some(ListenResponse { router_endpoint, router_token }) = stream.next().await? {
        pauses.begin_anew();
        while joined.try_join_next().is_some() {}
        let (controller, tunnels, counted) = (controller.clone(), tunnels.clone(), counted.clone());
        joined.spawn(async move {
            let served = async {
                let token = Secret::new(router_token);
                let tunnel = controller.tunnel(&router_endpoint, &token).await?;
                let _open = counted.tunnel();
                tunnels.serve(tunnel).await
            };
            match served.await {
                Ok(TunnelEnd::Silent) => counted.change(|counts| counts.silent_tunnels += 1),
                Ok(_) => {}
                Err(error) => {
                    counted.change(|counts| counts.failed_tunnels += 1);
                    tracing::warn!(error = error.report(), "a client's tunnel was not joined");
                }
            }
        });
    }
    Ok(())
}
