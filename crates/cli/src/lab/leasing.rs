//! Getting a device of a lab.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jumpstarter_client::lab::{Lab, Lease};
use jumpstarter_driver_core::{Error, ErrorKind, Result as CoreResult};

use super::choice::Choice;
use super::token::Keeper;
use super::waiting::Waiting;
use crate::environment::Environment;
use crate::fault::Result;
use crate::print;

/// A device that is wanted, and the lab that has it.
#[derive(Debug)]
pub(crate) struct Leasing {
    pub(super) choice: Choice,
    pub(super) duration: Duration,
    pub(super) acquisition_limit: Duration,
    pub(super) lab: Lab,
    pub(super) retry_limit: Duration,
    pub(super) environment: Environment,
    pub(super) tokens: Keeper,
}

impl Leasing {
    /// The lab that has the device.
    pub(crate) fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Waits until a renewal of the client's token has ended.
    pub(crate) async fn token_settles(&self) {
        self.tokens.settled().await;
    }

    /// Leases a device and connects to it. A device that cannot be reached is given back, and
    /// another one leased, within the retry limit. Says why it waits. From the beginning on the
    /// client's token is renewed.
    pub(crate) async fn connected<T>(
        &self,
        connect: impl AsyncFn(Arc<Lease>) -> CoreResult<T>,
    ) -> Result<(Arc<Lease>, T)> {
        self.tokens.start(self.lab.controller().identity(), &self.environment).await?;
        let wanted = self.choice.settle(&self.lab, &self.environment).await?;
        let wanted = wanted.duration(self.duration).acquisition_limit(self.acquisition_limit);
        let begun = Instant::now();
        loop {
            let mut waiting = Waiting::new(&self.environment);
            let lease = self.lab.lease(wanted.clone(), |why| waiting.for_device(why)).await?;
            drop(waiting);
            let error = match connect(lease.clone()).await {
                Ok(connected) => return Ok((lease, connected)),
                Err(error) => error,
            };
            let is_retried =
                lease.is_own() && is_unreachable(&error) && begun.elapsed() < self.retry_limit;
            lease.release().await?;
            if !is_retried {
                return Err(error.into());
            }
            let why = print::line(&format!("{error:#}")).into_owned();
            self.environment.report_beside(format_args!("{why}; another device is asked for"));
        }
    }
}

/// Whether another device may be reached.
fn is_unreachable(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::DeadlineExceeded)
}
