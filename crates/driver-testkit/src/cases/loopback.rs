//! The case of a `Serial` whose other side echoes.

use crate::case::{MustSucceed, Outcome};
use crate::cases::echo::round_trip;
use crate::instance::Instance;

/// LOOPBACK-1: a mebibyte of every byte value comes back as it was sent.
pub(crate) async fn data_comes_back_whole(instance: &Instance) -> Outcome {
    let channel = instance.serial().connect().await.must("opening the port")?;
    round_trip(instance, channel, false).await
}
