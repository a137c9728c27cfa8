//! Cases of `Network` with any peer.

use std::time::Duration;

use futures_util::future::join_all;
use jumpstarter_driver_core::{Channel, ErrorKind};

use crate::case::{Outcome, ensure};
use crate::instance::Instance;
use crate::leftovers::Snapshot;

/// How long a connection may take to be closed.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);

/// Connects; `None` if nothing answers, which is a failure only with an echo.
async fn connect(instance: &Instance) -> Result<Option<Channel>, String> {
    match instance.network().connect().await {
        Ok(channel) => Ok(Some(channel)),
        Err(error) if error.kind() == ErrorKind::Unavailable && !instance.options.echo => Ok(None),
        Err(error) => Err(format!("`connect` failed: {error:?}")),
    }
}

/// NETWORK-1: `connect` opens a channel, or is `Unavailable`.
pub(crate) async fn connect_opens_or_is_unavailable(instance: &Instance) -> Outcome {
    instance.doing("connecting");
    connect(instance).await.map(drop)
}

/// NETWORK-2: many connections can be open at once.
pub(crate) async fn many_connections_at_once(instance: &Instance) -> Outcome {
    instance.doing("opening 16 connections");
    let mut open = Vec::new();
    for outcome in join_all((0..16).map(|_| connect(instance))).await {
        open.push(outcome?);
    }
    let missing = open.iter().filter(|channel| channel.is_none()).count();
    ensure!(
        missing == 0 || missing == open.len(),
        "{missing} of {} connections are unavailable",
        open.len()
    );
    drop(open);
    instance.doing("connecting after 16 connections were dropped");
    connect(instance).await.map(drop)
}

/// NETWORK-3: finishing one connection's writing half neither fails nor disturbs another
/// connection.
pub(crate) async fn half_close_keeps_the_connection(instance: &Instance) -> Outcome {
    let (Some(mut finished), Some(mut other)) =
        (connect(instance).await?, connect(instance).await?)
    else {
        return Ok(());
    };
    instance.doing("finishing the writing half");
    finished
        .finish()
        .await
        .map_err(|error| format!("finishing the writing half failed: {error:?}"))?;
    finished.finish().await.map_err(|error| format!("finishing it again failed: {error:?}"))?;
    // The other side may answer, end or stay silent; an error is a failure.
    if let Ok(Err(error)) =
        tokio::time::timeout(Duration::from_millis(200), finished.receive()).await
    {
        return Err(format!("reading after a half-close failed: {error:?}"));
    }
    instance.doing("writing to another connection after a half-close");
    other.send("x").await.map_err(|error| format!("another connection broke: {error:?}"))
}

/// NETWORK-4: `address` has the form `scheme://…`, or is `Unimplemented` or refused with
/// `InvalidArgument`.
pub(crate) async fn address_has_a_scheme(instance: &Instance) -> Outcome {
    instance.doing("asking for the address");
    let address = match instance.network().address().await {
        Ok(address) => address,
        Err(error)
            if [ErrorKind::Unimplemented, ErrorKind::InvalidArgument].contains(&error.kind()) =>
        {
            return Ok(());
        }
        Err(error) => return Err(format!("`address` failed: {error:?}")),
    };
    let parts = address.split_once("://").filter(|(scheme, rest)| {
        !rest.is_empty()
            && scheme.starts_with(|first: char| first.is_ascii_lowercase())
            && !scheme.contains(['/', ' '])
    });
    ensure!(parts.is_some(), "the address `{address}` is not of the form scheme://…");
    Ok(())
}

/// NETWORK-5: dropping a channel closes its connection, while the driver stays open.
pub(crate) async fn dropped_connection_is_closed(instance: &Instance) -> Outcome {
    // Resources that are opened once for all connections are open from here on.
    drop(connect(instance).await?);
    instance.doing("waiting until dropped connections are closed");
    tokio::task::yield_now().await;
    let before = Snapshot::take();
    drop((connect(instance).await?, connect(instance).await?, connect(instance).await?));
    before.wait_for_return(CLOSED_WITHIN).await.map_err(|left| left.to_string())
}
