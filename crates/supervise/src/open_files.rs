//! The limit of open files: this process takes the highest allowed one, its children keep the
//! earlier one.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit before it was raised.
static BEFORE: OnceLock<Option<u64>> = OnceLock::new();
/// More are useless, and programs that try all numbers take long with more.
const ENOUGH: u64 = 1 << 20;

/// Raises this process's limit of open files (`ulimit -n`) as far as allowed.
///
/// Programs that are started later have the earlier limit: some try all numbers, and those that use
/// `select` fail with large ones.
pub fn raise_open_files() {
    BEFORE.get_or_init(|| {
        let limit = getrlimit(Resource::Nofile);
        let wanted = limit.maximum.unwrap_or(ENOUGH).min(ENOUGH);
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        let is_lower = limit.current.is_some_and(|current| current < wanted);
        let is_raised = is_lower && setrlimit(Resource::Nofile, raised).is_ok();
        limit.current.filter(|_| is_raised)
    });
}

/// The limit for programs, if it differs from this process's.
pub(crate) fn limit_of_programs() -> Option<u64> {
    BEFORE.get().copied().flatten()
}
