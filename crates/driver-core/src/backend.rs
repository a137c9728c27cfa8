//! Operations on a whole device, and their order for local drivers.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::{BoxFuture, join_all};

use crate::error::Result;
use crate::node::{LocalDriver, Node};
use crate::path::shown;

/// Operations on a whole device: on the drivers of this process, or at the other end of a
/// connection.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync {
    /// Resets every driver.
    ///
    /// # Errors
    /// The drivers' errors, or those of the connection.
    async fn reset(&self) -> Result<()>;

    /// Has every driver open again what it lost. A remote device does that at the other end.
    ///
    /// # Errors
    /// The drivers' errors.
    async fn renew(&self) -> Result<()> {
        Ok(())
    }

    /// Closes every driver, or ends the connection and leaves remote drivers open.
    ///
    /// # Errors
    /// The drivers' errors, or those of the connection.
    async fn close(&self) -> Result<()>;
}

/// The nodes of a device whose drivers are in this process.
#[derive(Debug)]
pub(crate) struct Local(pub(crate) Arc<[Node]>);

impl Local {
    /// Awaits `operation` for the drivers, in that order; then for the independent ones at the same
    /// time. Returns the first error after all of them.
    async fn each<'a>(
        &'a self,
        order: impl IntoIterator<Item = usize>,
        operation: impl Fn(&'a dyn LocalDriver) -> BoxFuture<'a, Result<()>>,
        describe: impl Fn(&str) -> String,
    ) -> Result<()> {
        let run = async |(node, driver): (&'a Node, &'a dyn LocalDriver)| {
            operation(driver).await.map_err(|error| error.context(describe(shown(&node.path))))
        };
        let nodes = order.into_iter().map(|index| &self.0[index]);
        let drivers = nodes.filter_map(|node| Some((node, node.driver.as_deref()?)));
        let (independent, others): (Vec<_>, Vec<_>) =
            drivers.partition(|(_, driver)| driver.is_independent());
        let mut outcomes = Vec::new();
        for other in others {
            outcomes.push(run(other).await);
        }
        outcomes.extend(join_all(independent.into_iter().map(run)).await);
        let mut errors = outcomes.into_iter().filter_map(Result::err);
        let first = errors.next();
        for further in errors {
            tracing::warn!(error = %further.report(), "a further driver of the device failed");
        }
        first.map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Backend for Local {
    async fn reset(&self) -> Result<()> {
        let order = 0..self.0.len();
        self.each(order, |driver| driver.reset(), |path| format!("resetting `{path}`")).await
    }

    async fn renew(&self) -> Result<()> {
        let order = 0..self.0.len();
        self.each(order, |driver| driver.renew(), |path| format!("opening `{path}` again")).await
    }

    async fn close(&self) -> Result<()> {
        let order = order(&self.0);
        self.each(order, |driver| driver.close(), |path| format!("closing `{path}`")).await
    }
}

/// The closing order: a parent before its children, siblings in reverse.
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
        // Pushed in the file's order, so that the last sibling is popped first.
        open.append(&mut children[index]);
    }
    order
}
