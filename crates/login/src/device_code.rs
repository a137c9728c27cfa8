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
/// How much longer the pauses become for a provider that is asked too often (RFC 8628, 3.5).
const SLOWER: Duration = Duration::from_secs(5);
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
        let url = self.token_endpoint()?;
        let doing = || format!("waiting for the login at {url}");
        let fields = [("grant_type", GRANT), ("device_code", &answer.device_code)];
        let waiting = granted(Duration::from_secs(seconds), async || self.post(url, &fields).await);
        let waited = tokio::time::timeout_at(end, waiting).await.unwrap_or_else(|_| {
            let minutes = life.as_secs().div_ceil(60);
            Err(Error::deadline_exceeded(format!("the code was not used within {minutes} minutes"))
                .with_hint("log in again, and open the page that is shown"))
        });
        waited.and_then(|body| Tokens::read(&body, self, None)).with_context(doing)
    }
}

/// Asks, with `interval` before each question, until the user has agreed. Returns the answer.
async fn granted(
    mut interval: Duration,
    ask: impl AsyncFn() -> Result<Answered>,
) -> Result<Vec<u8>> {
    loop {
        tokio::time::sleep(interval).await;
        match ask().await {
            Ok(Answered::Granted(body)) => return Ok(body),
            Ok(Answered::Refused(refusal, error)) => match refusal.error.as_str() {
                "authorization_pending" => {}
                "slow_down" => interval += SLOWER,
                _ => return Err(error),
            },
            Err(error) => {
                tracing::debug!(error = error.report(), "the provider is asked again");
                interval = (interval * 2).min(Duration::from_secs(MAX_INTERVAL));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use jumpstarter_driver_core::ErrorKind;

    use super::*;
    use crate::grant::Refusal;

    /// Asks a provider with these answers, an empty one for a failed request; the seconds of the
    /// questions, and the outcome.
    async fn asked(interval: u64, answers: &[&str]) -> (Vec<u64>, Result<Vec<u8>>) {
        let (begun, seconds) = (Instant::now(), RefCell::new(Vec::new()));
        let ask = async || {
            let answer = answers[seconds.borrow().len()];
            seconds.borrow_mut().push(begun.elapsed().as_secs());
            match answer {
                "" => Err(Error::unavailable("it does not answer")),
                "granted" => Ok(Answered::Granted(b"{}".to_vec())),
                code => {
                    let refusal: Refusal =
                        serde_json::from_value(serde_json::json!({"error": code})).unwrap();
                    let error = refusal.explain(400, &[("grant_type", GRANT)]);
                    Ok(Answered::Refused(refusal, error))
                }
            }
        };
        let outcome = granted(Duration::from_secs(interval), ask).await;
        (seconds.into_inner(), outcome)
    }

    #[tokio::test(start_paused = true)]
    async fn the_provider_says_how_often_it_is_asked() {
        let wait = "authorization_pending";
        let (seconds, outcome) =
            asked(5, &[wait, wait, "slow_down", wait, "slow_down", "granted"]).await;
        assert_eq!(
            (seconds, outcome.unwrap().as_slice()),
            (vec![5, 10, 15, 25, 35, 50], &b"{}"[..])
        );
        // One that does not answer is asked less and less often.
        let (seconds, outcome) = asked(5, &["", "", "", "", "", wait, "granted"]).await;
        assert_eq!(seconds, [5, 15, 35, 75, 135, 195, 255]);
        assert!(outcome.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_code_ends_the_questions() {
        for (code, kind, hint) in [
            ("expired_token", ErrorKind::DeadlineExceeded, "open the page sooner"),
            ("access_denied", ErrorKind::PermissionDenied, "log in again, and agree"),
            ("invalid_grant", ErrorKind::Unauthenticated, "log in again"),
            ("of_tomorrow", ErrorKind::FailedPrecondition, "ask who runs the provider"),
        ] {
            let (seconds, outcome) = asked(5, &["authorization_pending", code, "granted"]).await;
            let error = outcome.unwrap_err();
            assert_eq!((seconds.as_slice(), error.kind()), (&[5, 10][..], kind), "{code}");
            let report = error.report();
            assert!(report.contains(code) && report.contains(hint), "{report}");
        }
    }
}
