//! Closes drivers, which may panic.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use crate::driver::Driver;
use crate::error::{Error, Result};

/// Closes one driver; a panic becomes an error.
pub(crate) async fn close_driver(driver: &dyn Driver) -> Result<()> {
    guarded(driver.close()).await
}

/// Awaits `closing`; a panic becomes an error.
pub(crate) async fn guarded(closing: impl Future<Output = Result<()>>) -> Result<()> {
    AssertUnwindSafe(closing).catch_unwind().await.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Error::internal(format!("it panicked: {text}")))
    })
}
