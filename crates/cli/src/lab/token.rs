//! The token of a client, while a command runs: renewed before it expires.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jumpstarter_config::{ClientConfig, TokenClaims};
use jumpstarter_controller::Identity;
use jumpstarter_driver_core::{Error, Result, Secret};
use jumpstarter_login::{ProviderOptions, Renewed, renew};
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

use crate::auth::{LOG_IN, duration, remedy};
use crate::environment::Environment;
use crate::{login, terminal};

/// A token is renewed when it expires within this time, or a third of its life.
const EARLY: Duration = Duration::from_secs(120);
/// Without a refresh token there is a warning when it expires within this time.
const NOTICE: Duration = Duration::from_secs(300);
/// How often is looked at the clock, which may be set.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// How often a renewal that failed is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// A command begins only with a token that is good for so long.
const MARGIN: Duration = Duration::from_secs(5);
/// How long the end of a command waits for a renewal.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);

/// A client's configuration with a token that is good now: renewed if it must be, and can be; else,
/// on a terminal, of a new login.
///
/// # Errors
/// `Unauthenticated` for a token that has expired and cannot be renewed; those of the login.
pub(crate) async fn renewed(
    mut config: ClientConfig,
    environment: &Environment,
) -> Result<ClientConfig> {
    make_good(&mut config, environment).await.map(|()| config)
}

async fn make_good(config: &mut ClientConfig, environment: &Environment) -> Result<()> {
    if life(&config.token).is_none_or(|life| life.left > MARGIN) {
        return Ok(());
    }
    let outcome = renew(config, MARGIN).await;
    match life(&config.token) {
        Some(life) if life.left.is_zero() => {
            let claims = config.token.as_ref().and_then(TokenClaims::read).unwrap_or_default();
            let options = ProviderOptions::of_claims(&claims);
            if let Some(options) = options
                && terminal::is_interactive()
                && environment.err_is_animated()
            {
                return login::again(config, options, environment).await;
            }
            let message = format!("the token of the client {} is expired", config.alias);
            let error = Error::unauthenticated(message).with_hint(remedy(&claims));
            Err(match outcome {
                Err(source) if config.refresh_token.is_some() => error.with_source(source),
                _ => error,
            })
        }
        _ => Ok(()),
    }
}

/// The time of a token.
#[derive(Clone, Copy, Debug)]
struct Life {
    left: Duration,
    /// From its issue to its expiry.
    whole: Option<Duration>,
}

impl Life {
    /// When it is to be renewed: as long before its expiry.
    fn early(self) -> Duration {
        self.whole.map_or(EARLY, |whole| EARLY.min(whole / 3))
    }
}

/// That of a client's token; `None` if it says no expiry.
fn life(token: &Option<Secret>) -> Option<Life> {
    let claims = token.as_ref().and_then(TokenClaims::read)?;
    let expires = claims.expires?;
    let left = expires.duration_since(SystemTime::now()).unwrap_or_default();
    let whole = claims.issued.and_then(|issued| expires.duration_since(issued).ok());
    Some(Life { left, whole })
}

/// Renews a client's token while a command runs. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Keeper {
    config: Arc<Mutex<ClientConfig>>,
    renewals: TaskTracker,
}

impl Keeper {
    pub(crate) fn new(config: ClientConfig) -> Self {
        Self { config: Arc::new(Mutex::new(config)), renewals: TaskTracker::new() }
    }

    /// Renews a token that has expired, or lets the user log in, and from now on renews each one
    /// before it expires, while the runtime runs; gives it to `identity`. The user is warned of
    /// what goes wrong.
    ///
    /// # Errors
    /// As [`renewed`].
    pub(crate) async fn start(&self, identity: &Identity, environment: &Environment) -> Result<()> {
        let mut config = self.config.lock().await;
        make_good(&mut config, environment).await?;
        if let Some(token) = config.token.clone() {
            identity.set_token(token);
        }
        drop(config);
        let (keeper, identity, environment) = (self.clone(), identity.clone(), environment.clone());
        tokio::spawn(async move {
            keeper.keep(&identity, |text| environment.report_beside(text)).await;
        });
        Ok(())
    }

    /// Renews the token before it expires. `say` gets what the user should know.
    async fn keep(&self, identity: &Identity, say: impl Fn(String)) {
        let (mut is_noticed, mut has_failed, mut is_over) = (false, false, false);
        loop {
            let (life, can_renew) = {
                let config = self.config.lock().await;
                (life(&config.token), config.refresh_token.is_some())
            };
            let Some(life) = life else { return std::future::pending().await };
            let early = life.early();
            if life.left > early {
                if life.left <= NOTICE && !can_renew && !std::mem::replace(&mut is_noticed, true) {
                    let left = duration(life.left);
                    say(format!("Token expires in {left}. {LOG_IN}"));
                }
                tokio::time::sleep((life.left - early).min(LOOK_INTERVAL)).await;
                continue;
            }
            match self.renew(identity, early).await {
                Ok(how) => {
                    if how == Renewed::FromFile && (is_noticed || has_failed) {
                        say("Token reloaded from login.".to_owned());
                    }
                    tracing::debug!(?how, "the token was renewed");
                    (is_noticed, has_failed, is_over) = (false, false, false);
                }
                Err(error) => {
                    tracing::debug!(error = error.report(), "the token was not renewed");
                    if life.left.is_zero() && !std::mem::replace(&mut is_over, true) {
                        say("Token expired and auto-refresh failed. New commands will fail until \
                             you run 'jmp login' from this shell."
                            .to_owned());
                    } else if !life.left.is_zero() && !std::mem::replace(&mut has_failed, true) {
                        let left = duration(life.left);
                        say(format!("Token expires in {left} and auto-refresh failed. {LOG_IN}"));
                    }
                }
            }
            // Also after a success: a token that is renewed at once would be renewed for ever.
            tokio::time::sleep(RETRY_INTERVAL.min(early.max(Duration::from_secs(1)))).await;
        }
    }

    /// Renews the token. It goes on if the command ends: a provider may take a refresh token only
    /// once, so its successor must reach the file.
    async fn renew(&self, identity: &Identity, at_least: Duration) -> Result<Renewed> {
        let config = self.config.clone();
        let renewing = self.renewals.spawn(async move {
            let mut config = config.lock().await;
            let outcome = renew(&mut config, at_least).await;
            (outcome, config.token.clone())
        });
        let (outcome, token) = renewing
            .await
            .map_err(|error| Error::internal("renewing the token").with_source(error))?;
        if let Some(token) = token {
            identity.set_token(token);
        }
        outcome
    }

    /// Waits until a renewal has ended.
    pub(crate) async fn settled(&self) {
        self.renewals.close();
        tokio::time::timeout(SETTLE_LIMIT, self.renewals.wait()).await.ok();
    }
}
