//! Runs programs and takes their time.

use std::time::{Duration, Instant};

use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::{Command, run};

/// How long one turn may take.
const TURN: Duration = Duration::from_secs(600);

/// Runs a program to its end and returns how long it took, its start included.
pub(crate) async fn timed(command: Command) -> Result<Duration> {
    let started = Instant::now();
    finish(command).await?;
    Ok(started.elapsed())
}

/// Runs a program to its end.
pub(crate) async fn finish(command: Command) -> Result<()> {
    let failed =
        |error: jumpstarter_supervise::SuperviseError| Error::internal("running a tool").with_source(error);
    run(command, TURN).await.map(drop).map_err(failed)
}

/// A line of shell; `"$1"` and so on are the arguments.
pub(crate) fn shell<'a>(line: &str, arguments: impl IntoIterator<Item = &'a std::path::Path>) -> Command {
    Command::new("sh").args(["-c", line, "sh"]).args(arguments)
}
