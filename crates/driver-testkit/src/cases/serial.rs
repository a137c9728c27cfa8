//! Cases of `Serial` with any other side.

use std::time::Duration;

use jumpstarter_driver_core::{Channel, ErrorKind, Result};

use crate::case::{MustSucceed, Outcome, ensure};
use crate::instance::Instance;
use crate::leftovers::Snapshot;

/// How often opening is tried while the port is being released.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);

/// Opens the port, which an earlier holder may still be releasing.
async fn reopen(instance: &Instance, what: &str) -> std::result::Result<Channel, String> {
    instance.doing(what);
    let mut tries = 0;
    loop {
        match instance.serial().connect().await {
            Err(_) if tries < TRIES => tries += 1,
            outcome => return outcome.must(what),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// SERIAL-1: the port opens, and opens again after its channel was dropped.
pub(crate) async fn reopens_after_drop(instance: &Instance) -> Outcome {
    instance.doing("opening the port");
    let channel = instance.serial().connect().await.must("opening the port")?;
    drop(channel);
    drop(reopen(instance, "opening the port after a drop").await?);
    drop(reopen(instance, "opening the port a third time").await?);
    Ok(())
}

/// SERIAL-2: the control lines can be set, or are `Unimplemented`, with the port open and closed.
pub(crate) async fn control_lines_work_or_are_unimplemented(instance: &Instance) -> Outcome {
    let serial = instance.serial();
    let channel = serial.connect().await.must("opening the port")?;
    for level in [true, false] {
        instance.doing("setting control lines");
        settable(serial.set_dtr(level).await, "`set_dtr`", true)?;
        settable(serial.set_rts(level).await, "`set_rts`", true)?;
    }
    drop(channel);
    serial.close().await.must("`close`")?;
    settable(serial.set_dtr(true).await, "`set_dtr` without a connection", false)?;
    settable(serial.set_rts(true).await, "`set_rts` without a connection", false)
}

/// Without a connection a port may also answer that it needs one.
fn settable(outcome: Result<()>, what: &str, open: bool) -> Outcome {
    match outcome {
        Err(error) if error.kind() == ErrorKind::Unimplemented => Ok(()),
        Err(error) if !open && error.kind() == ErrorKind::FailedPrecondition => Ok(()),
        outcome => outcome.must(what),
    }
}

/// SERIAL-3: `close` ends every connection, succeeds without one, and the port opens again.
pub(crate) async fn close_ends_connections(instance: &Instance) -> Outcome {
    let serial = instance.serial();
    instance.doing("closing the port before it was opened");
    serial.close().await.must("`close` before any connection")?;
    let mut channel = reopen(instance, "opening the port").await?;
    instance.doing("closing the port");
    serial.close().await.must("`close`")?;
    instance.doing("waiting for the end of a closed connection");
    // Data from before the close may still be delivered; the end or an error follows.
    while let Ok(Some(_)) = channel.receive().await {}
    drop(reopen(instance, "opening the port after `close`").await?);
    serial.close().await.must("`close` again")
}

/// SERIAL-4: dropping a channel closes its connection, while the driver stays open.
pub(crate) async fn dropped_connection_is_closed(instance: &Instance) -> Outcome {
    // Resources that are opened once for all connections are open from here on.
    drop(reopen(instance, "opening the port").await?);
    instance.serial().close().await.must("`close`")?;
    let before = Snapshot::take();
    drop(reopen(instance, "opening the port again").await?);
    instance.doing("waiting until a dropped connection is closed");
    let left = before.wait_for_return(TRIES * PAUSE).await;
    ensure!(left.is_ok(), "{}", left.map_or_else(|left| left.to_string(), |()| String::new()));
    Ok(())
}
