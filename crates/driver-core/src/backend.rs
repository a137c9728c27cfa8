//! Operations on a whole device, and their order for local drivers.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::node::Node;
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

#[async_trait]
impl Backend for Local {
    /// Resets in the tree's order. Returns the first error after resetting all drivers.
    async fn reset(&self) -> Result<()> {
        let mut result = Ok(());
        for node in self.0.iter() {
            let Some(driver) = &node.driver else { continue };
            let outcome = driver
                .reset()
                .await
                .map_err(|error| error.context(format!("resetting `{}`", node.path)));
            result = result.and(outcome);
        }
        result
    }

    /// As `reset`.
    async fn renew(&self) -> Result<()> {
        let mut result = Ok(());
        for node in self.0.iter() {
            let Some(driver) = &node.driver else { continue };
            let outcome = driver.renew().await;
            let opening = |error: Error| error.context(format!("opening `{}` again", node.path));
            result = result.and(outcome.map_err(opening));
        }
        result
    }

    async fn close(&self) -> Result<()> {
        let nodes = &self.0;
        let mut result = Ok(());
        for index in order(nodes) {
            let node = &nodes[index];
            let Some(driver) = &node.driver else { continue };
            let outcome = driver
                .close()
                .await
                .map_err(|error| error.context(format!("closing `{}`", shown(&node.path))));
            match (&result, outcome) {
                (Ok(()), outcome) => result = outcome,
                (Err(_), Err(further)) => {
                    tracing::warn!(error = %further.report(), "closing a device")
                }
                (Err(_), Ok(())) => {}
            }
        }
        result
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
