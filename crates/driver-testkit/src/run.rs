//! Runs one case on a fresh instance and judges it.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use jumpstarter_driver_core::DriverConfig;

use crate::case::Case;
use crate::cases;
use crate::fixture::Fixture;
use crate::instance::{Instance, Mode};
use crate::isolated::isolated;
use crate::leftovers::Snapshot;
use crate::skip::skip_test;

/// The duty that forbids leftovers; every case checks it.
const RELEASES: &str = "GENERIC-2";
/// The duty that forbids panics and hanging closes; every case checks it.
const CLOSES: &str = "GENERIC-4";
/// The duty of opening and listing, for a driver that does not open.
const OPENS: &str = "GENERIC-1";

/// The duty that a driver broke, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its id in `docs/driver-duties.md`: the case's, or that of a duty that every case checks.
    pub duty: &'static str,
    /// What the case observed.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.duty, self.message)
    }
}

/// Runs one case in this process, in a separate runtime; blocks. Only one case runs at a time.
///
/// Leftover files are noticed only if the temporary folder belongs to this process: inside
/// [`isolated`].
///
/// # Errors
/// The duty that the driver broke.
pub fn run_case<C: DriverConfig>(
    fixture: &Fixture<C>,
    case: &Case,
    mode: Mode,
) -> Result<(), Failure> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    count_panics();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime
        .map_err(|error| Failure { duty: OPENS, message: format!("no tokio runtime: {error}") })?;
    let mut outcome = runtime.block_on(attempt(fixture, case, mode));
    // Resources that a library opens once and keeps (a signal pipe, a resolver) do not appear a
    // second time; a leak does.
    if let Err((_, true)) = &outcome {
        outcome = runtime.block_on(attempt(fixture, case, mode));
    }
    runtime.shutdown_timeout(fixture.settle);
    outcome.map_err(|(failure, _)| failure)
}

/// Runs the case; a failure comes with whether open files are its only sign.
async fn attempt<C: DriverConfig>(
    fixture: &Fixture<C>,
    case: &Case,
    mode: Mode,
) -> Result<(), (Failure, bool)> {
    let fail = |duty, message: String| Err((Failure { duty, message }, false));
    let limit = fixture.deadline;
    let late = |what: &str| format!("{what} did not end within {} s", limit.as_secs_f32());
    let Ok(configuration) = tokio::time::timeout(limit, fixture.configure()).await else {
        return fail(OPENS, late("evaluating the configuration"));
    };
    let (before, panics) = (Snapshot::take(), PANICS.load(Ordering::SeqCst));
    let instance = match tokio::time::timeout(limit, fixture.open(configuration, mode)).await {
        Ok(Ok(instance)) => Arc::new(instance),
        Ok(Err(message)) => return fail(OPENS, message),
        Err(_) => return fail(OPENS, late("opening")),
    };
    let (run, subject) = (case.run, Arc::clone(&instance));
    let mut task = tokio::spawn(async move { run(&subject).await });
    let verdict = match tokio::time::timeout(limit, &mut task).await {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(error)) => Err(format!("it panicked: {error}")),
        Err(_) => {
            task.abort();
            Err(late(&format!("`{}`, while {}", case.name, instance.was_doing())))
        }
    };
    // Released after every verdict: the next case must not see this one's resources.
    let held = release(instance, limit).await;
    if let Err(message) = verdict {
        return fail(case.duty, message);
    }
    let held = match held {
        Ok(held) => held,
        Err(message) => return fail(CLOSES, message),
    };
    let duty = if held.is_some() { RELEASES } else { case.duty };
    if let Err(left) = before.wait_for_return(fixture.settle).await {
        // Another connection is kept alive each time.
        let only_files_open = left.only_open_files && !left.is_kept_alive();
        return Err((Failure { duty, message: left.to_string() }, only_files_open));
    }
    drop(held);
    if PANICS.load(Ordering::SeqCst) != panics {
        return fail(CLOSES, "something panicked on the way".to_owned());
    }
    Ok(())
}

/// Closes the driver, and keeps it: closing alone must release everything. A driver that must be
/// dropped is dropped.
async fn release(
    instance: Arc<Instance>,
    limit: Duration,
) -> Result<Option<Arc<Instance>>, String> {
    if instance.is_left_unclosed() {
        return Ok(None);
    }
    let closing = Arc::clone(&instance);
    let task = tokio::spawn(async move { closing.close().await });
    match tokio::time::timeout(limit, task).await {
        Ok(Ok(Ok(()))) => Ok(Some(instance)),
        Ok(Ok(Err(error))) => Err(format!("closing failed: {error:?}")),
        Ok(Err(error)) => Err(format!("closing panicked: {error}")),
        Err(_) => Err(format!("closing did not end within {} s", limit.as_secs_f32())),
    }
}

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Counts panics in tasks that nobody joins.
fn count_panics() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            previous(info);
        }));
    });
}

/// The body of a test that [`conformance!`](crate::conformance) makes.
#[doc(hidden)]
pub fn test<C: DriverConfig>(
    module: &str,
    fixture: Fixture<C>,
    group: &str,
    case: &str,
    mode: Mode,
) {
    let name = match mode {
        Mode::Direct => format!("{module}::direct"),
        Mode::Proxy => format!("{module}::proxy"),
        Mode::Child => module.to_owned(),
    };
    let found = cases::of(group).iter().find(|found| found.name == case);
    let case = found.expect("the tests and the table are made from one list");
    if let Some((_, reason)) = fixture.waived.iter().find(|(duty, _)| *duty == case.duty) {
        return skip_test(&name, &format!("{} waived: {reason}", case.duty));
    }
    if !(fixture.needs)() {
        return;
    }
    // Configuring, opening, the case and closing, twice, and the time for leftovers to disappear.
    let outer = (fixture.deadline * 4 + fixture.settle) * 2;
    isolated(&name, outer, || {
        run_case(&fixture, case, mode).map_err(|failure| failure.to_string())
    });
}
