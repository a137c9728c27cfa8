//! Closing a device: once, whoever asks how often, and to the end, whoever stops waiting.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use super::{Node, Remote};
use crate::driver::Driver;
use crate::error::{Error, ErrorKind, Result};
use crate::tree::shown;

/// The end of a closing, for all who wait for it.
pub(super) type Closing = Shared<BoxFuture<'static, Result<(), Arc<Error>>>>;

/// Starts to close `nodes`, or the connection to them. A task of its own does it, so that it goes
/// on when nobody waits; outside a runtime, those who wait do.
pub(super) fn start(nodes: Arc<[Node]>, remote: Option<Arc<dyn Remote>>) -> Closing {
    let work = async move {
        let result = match remote {
            Some(remote) => guarded(remote.close()).await,
            None => close_all(&nodes).await,
        };
        result.map_err(Arc::new)
    };
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

async fn close_all(nodes: &[Node]) -> Result<()> {
    let mut result = Ok(());
    for index in order(nodes) {
        let node = &nodes[index];
        let Some(driver) = &node.driver else { continue };
        let outcome = close_driver(driver.as_ref())
            .await
            .map_err(|error| error.context(format!("closing `{}`", shown(&node.path))));
        match (&result, outcome) {
            (Ok(()), outcome) => result = outcome,
            (Err(_), Err(further)) => tracing::warn!(error = %further.report(), "closing a device"),
            (Err(_), Ok(())) => {}
        }
    }
    result
}

/// Closes one driver; one that panics has failed.
pub(crate) async fn close_driver(driver: &dyn Driver) -> Result<()> {
    guarded(driver.close()).await
}

async fn guarded(closing: impl Future<Output = Result<()>>) -> Result<()> {
    AssertUnwindSafe(closing).catch_unwind().await.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Error::internal(format!("it panicked: {text}")))
    })
}

/// A parent before its children, siblings in reverse.
fn order(nodes: &[Node]) -> Vec<usize> {
    let mut children = vec![Vec::new(); nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        if let Some(parent) = node.parent {
            children[parent].push(index);
        }
    }
    let mut order = Vec::with_capacity(nodes.len());
    let mut open: Vec<usize> = if nodes.is_empty() { Vec::new() } else { vec![0] };
    while let Some(index) = open.pop() {
        order.push(index);
        // Pushed in the file's order, so the last sibling is taken first.
        open.append(&mut children[index]);
    }
    order
}
