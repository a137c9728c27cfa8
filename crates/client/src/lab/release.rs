//! The end of a lease that was created here.

use std::time::Duration;

use jumpstarter_driver_core::{Error, ErrorKind, Result};
use jumpstarter_supervise::Leftovers;
use tokio::runtime::Builder;

use super::Lab;

/// How long the release may take, also while the controller is away.
const LIMIT: Duration = Duration::from_secs(30);

/// The releases of leases that were dropped. A process that exits waits for one attempt of each.
static RELEASES: Leftovers = Leftovers::new("lease-release", Duration::from_secs(5));

/// Ends a lease. A controller that is away is waited for.
///
/// # Errors
/// `DeadlineExceeded` if the controller is away; else its error.
pub(super) async fn now(lab: &Lab, name: &str) -> Result<()> {
    within(lab, name, LIMIT).await
}

/// Ends a lease whose owner was dropped, which may be anywhere: on the way out of a failed test,
/// for example, whose runtime ends at once. Separate threads do it.
pub(super) fn later(lab: &Lab, name: String) {
    let (token, lab) = (lab.releases.token(), lab.on_another_runtime());
    let first = {
        let name = name.clone();
        move || match blocking(&lab, &name, Duration::ZERO) {
            Ok(()) => {}
            Err(error) if is_away(&error) => {
                // Its own thread: the exit does not wait for a controller that is away.
                std::thread::spawn(move || {
                    let _token = token;
                    warn(&name, blocking(&lab, &name, LIMIT));
                });
            }
            Err(error) => warn(&name, Err(error)),
        }
    };
    warn(&name, RELEASES.run(first).map_err(Error::from));
}

fn blocking(lab: &Lab, name: &str, patience: Duration) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(within(lab, name, patience))
}

fn warn(name: &str, released: Result<()>) {
    if let Err(error) = released {
        tracing::warn!(error = error.report(), lease = name, "a lease was not released");
    }
}

async fn within(lab: &Lab, name: &str, patience: Duration) -> Result<()> {
    let released = tokio::time::timeout(LIMIT, lab.end_lease(name, patience)).await;
    let late = || {
        let limit = patience.as_secs();
        Error::deadline_exceeded(format!("the lease {name} was not released within {limit} s"))
            .with_hint("it ends by itself; or run `jmp delete leases` later")
    };
    match released {
        Ok(Ok(())) => Ok(()),
        // It was over already.
        Ok(Err(error)) if error.kind() == ErrorKind::FailedPrecondition => Ok(()),
        Ok(Err(error)) if !is_away(&error) => Err(error
            .context(format!("releasing the lease {name}"))
            .with_hint(format!("it ends by itself; or run `jmp delete leases {name}` later"))),
        Ok(Err(error)) => Err(late().with_source(error)),
        Err(_) => Err(late()),
    }
}

fn is_away(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::DeadlineExceeded)
}
