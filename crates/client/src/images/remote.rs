//! Images that the exporter fetches or sends: its log reports their progress.

use std::future::pending;
use std::time::Duration;

use futures_util::StreamExt;
use jumpstarter_driver_core::Result;
use jumpstarter_driver_core::image::{ImageRequest, Observer, Progress};
use jumpstarter_protocol::v1::LogStreamResponse;
use jumpstarter_protocol::{ImageReference, Messages, PresignedRequest, fields, rpc};
use serde_json::Value;
use tokio::sync::watch;

use super::{Moved, Transfer, transfer};
use crate::remote_driver::RemoteDriver;

/// How long the last record of the transfer may take after the call's answer.
const LAST_RECORD: Duration = Duration::from_secs(1);

/// Returns the image's name in the call, and a transfer that notifies `observers`. An exporter in
/// Python does not report its progress.
pub(super) async fn prepare(
    driver: &RemoteDriver,
    request: &ImageRequest,
    method: &str,
    observers: Vec<Observer>,
    answered: watch::Receiver<bool>,
) -> Result<(Value, Option<Transfer>)> {
    let image = ImageReference::PresignedRequest(PresignedRequest::new(method, request));
    let value = image.to_argument()?;
    if observers.is_empty() || !driver.implementation.logs_transfers() {
        return Ok((value, None));
    }
    let doing = "following the exporter's log";
    let log = driver.connection.streaming::<rpc::LogStream>(Vec::new(), &(), doing).await;
    let Ok(log) = log else { return Ok((value, None)) };
    let following = Following {
        log,
        driver: driver.uuid.clone(),
        url: request.to_string(),
        observers,
        image_timeout: driver.connection.image_timeout,
    };
    Ok(transfer(value, following.run(answered)))
}

struct Following {
    log: Messages<LogStreamResponse>,
    driver: String,
    url: String,
    observers: Vec<Observer>,
    image_timeout: Duration,
}

impl Following {
    /// Runs until the transfer or the call ends. Without progress the call's own limits apply
    /// again.
    async fn run(mut self, mut answered: watch::Receiver<bool>) -> Result<Moved> {
        let late = async {
            if answered.wait_for(|answered| *answered).await.is_err() {
                pending::<()>().await;
            }
            tokio::time::sleep(LAST_RECORD).await;
        };
        tokio::select! {
            biased;
            // A record that has come counts, however late it is read.
            () = self.follow() => {}
            () = late => {}
        }
        Ok(Moved::Broken(None))
    }

    async fn follow(&mut self) {
        while let Ok(Some(Ok(record))) =
            tokio::time::timeout(self.image_timeout, self.log.next()).await
        {
            let field = |name: &str| record.structured_fields.get(name).map(String::as_str);
            if field(fields::TRANSFER_DRIVER) != Some(&self.driver)
                || field(fields::TRANSFER_URL) != Some(&self.url)
            {
                continue;
            }
            let number = |name| field(name).and_then(|value| value.parse().ok());
            if let Some(transferred_bytes) = number(fields::TRANSFER_BYTES) {
                let progress = Progress::new(transferred_bytes, number(fields::TRANSFER_TOTAL));
                self.observers.iter().for_each(|observer| observer(progress));
            }
            if field(fields::TRANSFER_DONE).is_some() {
                return;
            }
        }
    }
}
