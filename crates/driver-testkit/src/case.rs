//! A case of the suite.

use std::fmt;

use futures_util::future::BoxFuture;

use crate::instance::Instance;

/// A case's result: nothing, or how the driver breaks the duty.
pub type Outcome = Result<(), String>;

/// One behaviour that a driver owes its callers, and the code that checks it.
#[derive(Clone, Copy)]
pub struct Case {
    /// The interface, or its option, that the case belongs to; `generic` for every driver.
    pub group: &'static str,
    /// Its name within the group.
    pub name: &'static str,
    /// The duty that it enforces, as `docs/driver-duties.md` lists it.
    pub duty: &'static str,
    /// Checks a fresh instance, which the caller closes.
    pub run: for<'a> fn(&'a Instance) -> BoxFuture<'a, Outcome>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{} ({})", self.group, self.name, self.duty)
    }
}

/// Ends a case with a text unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}
pub(crate) use ensure;

/// Turns the error of a call that must succeed into the case's verdict.
pub(crate) trait MustSucceed<T> {
    /// `what` is the call, such as `` `on` when on ``.
    fn must(self, what: &str) -> Result<T, String>;
}

impl<T> MustSucceed<T> for jumpstarter_driver_core::Result<T> {
    fn must(self, what: &str) -> Result<T, String> {
        self.map_err(|error| format!("{what} failed: {error:?}"))
    }
}
