//! A login on another device: a code is shown, and a browser anywhere takes it (RFC 8628).

use std::time::Duration;

use jumpstarter_driver_core::{Error, Result, ResultExt};
use serde::Deserialize;
use tokio::time::Instant;

use crate::address::{self, Plain};
use crate::grant::Answered;
use crate::{Provider, Tokens};

/// The time between two questions if the provider names none.
const INTERVAL: u64 = 5;
/// It may not be longer than that.
const MAX_INTERVAL: u64 = 60;
/// How long a code is good if the provider does not say.
const LIFE: u64 = 600;
/// The longest wait.
const MAX_LIFE: u64 = 3600;
const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// What the user does: open a page, and compare or type a code.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceCode {
    /// The page.
    pub url: String,
    /// The page with the code in its address, if there is one.
    pub whole_url: Option<String>,
    /// The code.
    pub text: String,
    /// How long it is good.
    pub life: Duration,
}

#[derive(Deserialize)]
struct Answer {
    device_code: String,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: Option<u64>,
    interval: Option<u64>,
}

impl Provider {
    /// Lets the user log in with a browser on any device. `show` gets the page and the code. It
    /// waits until the user has agreed, as long as the code is good.
    ///
    /// # Errors
    /// `PermissionDenied` for a user who declines, `DeadlineExceeded` for one who does not come,
    /// `Unimplemented` if the provider has no such way.
    pub async fn by_device_code(&self, show: impl FnOnce(&DeviceCode)) -> Result<Tokens> {
        let url = self.device_endpoint()?;
        let doing = || format!("asking for a code at {url}");
        let answer = match self.post(url, &[("scope", self.scope())]).await.with_context(doing)? {
            Answered::Granted(body) => crate::host::read::<Answer>(&body).with_context(doing)?,
            Answered::Refused(_, error) => return Err(error.context(doing())),
        };
        let plain = if self.options.trusts_any { Plain::Anywhere } else { Plain::Loopback };
        let plain = plain.of_endpoints(self.issuer());
        let pages = [Some(&answer.verification_uri), answer.verification_uri_complete.as_ref()];
        for page in pages.into_iter().flatten() {
            address::check("the page for the code", page, plain).with_context(doing)?;
        }
        let life = Duration::from_secs(answer.expires_in.unwrap_or(LIFE).min(MAX_LIFE));
        let end = Instant::now() + life;
        show(&DeviceCode {
            url: answer.verification_uri,
            whole_url: answer.verification_uri_complete,
            text: answer.user_code,
            life,
        });
        let seconds = answer.interval.unwrap_or(INTERVAL).clamp(1, MAX_INTERVAL);
        let waiting = self.wait(&answer.device_code, Duration::from_secs(seconds));
        tokio::time::timeout_at(end, waiting).await.unwrap_or_else(|_| {
            Err(Error::deadline_exceeded(format!(
                "the code was not used within {} minutes",
                life.as_secs().div_ceil(60)
            ))
            .with_hint("log in again, and open the page that is shown"))
        })
    }

    /// Asks until there is an answer.
    async fn wait(&self, code: &str, mut interval: Duration) -> Result<Tokens> {
        const SLOWER: Duration = Duration::from_secs(INTERVAL);
        let url = self.token_endpoint()?;
        let doing = || format!("waiting for the login at {url}");
        let fields = [("grant_type", GRANT), ("device_code", code)];
        loop {
            tokio::time::sleep(interval).await;
            match self.post(url, &fields).await {
                Ok(Answered::Granted(body)) => {
                    return Tokens::read(&body, self, None).with_context(doing);
                }
                Ok(Answered::Refused(refusal, error)) => match refusal.error.as_str() {
                    "authorization_pending" => {}
                    "slow_down" => interval += SLOWER,
                    _ => return Err(error.context(doing())),
                },
                Err(error) => {
                    tracing::debug!(error = error.report(), "the provider is asked again");
                    interval = (interval * 2).min(Duration::from_secs(MAX_INTERVAL));
                }
            }
        }
    }
}
