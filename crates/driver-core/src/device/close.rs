//! Closes a device once and completely, even with several callers or cancelled ones.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use crate::backend::Backend;
use crate::closing::guarded;
use crate::error::{Error, Result};

/// The result of closing, shared by all callers that wait for it.
pub(super) type Closing = Shared<BoxFuture<'static, Result<(), Arc<Error>>>>;

/// Starts to close a device. A separate task does it, so that it continues when nobody waits;
/// without a runtime, the waiting callers drive it.
pub(super) fn start(backend: Arc<dyn Backend>) -> Closing {
    let work = async move { guarded(backend.close()).await.map_err(Arc::new) };
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return work.boxed().shared();
    };
    let task = runtime.spawn(work);
    let waiting = async move {
        let interrupted =
            |_| Error::cancelled("the program's runtime ended before the device was closed");
        task.await.unwrap_or_else(|error| Err(Arc::new(interrupted(error))))
    };
    waiting.boxed().shared()
}
