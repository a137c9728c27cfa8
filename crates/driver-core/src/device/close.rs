//! Closing a device: once, whoever asks how often, and to the end, whoever stops waiting.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use crate::backend::Backend;
use crate::closing::guarded;
use crate::error::{Error, ErrorKind, Result};

/// The end of a closing, for all who wait for it.
pub(super) type Closing = Shared<BoxFuture<'static, Result<(), Arc<Error>>>>;

/// Starts to close a device. A task of its own does it, so that it goes on when nobody waits;
/// outside a runtime, those who wait do.
pub(super) fn start(backend: Arc<dyn Backend>) -> Closing {
    let work = async move { guarded(backend.close()).await.map_err(Arc::new) };
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return work.boxed().shared();
    };
    let task = runtime.spawn(work);
    let waiting = async move {
        let interrupted = |_| {
            Error::new(
                ErrorKind::Cancelled,
                "the program's runtime ended before the device was closed",
            )
        };
        task.await.unwrap_or_else(|error| Err(Arc::new(interrupted(error))))
    };
    waiting.boxed().shared()
}
