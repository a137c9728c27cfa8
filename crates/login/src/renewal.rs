//! Renewing a client's token: once, whatever number of programs uses its file.

use std::time::{Duration, SystemTime};

use jumpstarter_config::{ClientConfig, ClientLock, TokenClaims};
use jumpstarter_driver_core::{Error, Result, blocking};

use crate::{Provider, ProviderOptions, Tokens};

/// How a client got another token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Renewed {
    /// From the provider; the file has it, too.
    FromProvider,
    /// From its file: another program had stored it there.
    FromFile,
}

/// Gives a client another token: the one in its file, if another program stored one there that is
/// good for longer than `at_least`; else a new one, for its refresh token.
///
/// Programs that do this at the same time wait for each other: a provider may accept a refresh
/// token only once. Cancelling it may lose a refresh token that the provider has just given.
///
/// # Errors
/// `FailedPrecondition` without a refresh token, `Unauthenticated` if the provider does not accept
/// it; those of the provider and of the file. If only storing failed, `config` has the new tokens
/// nevertheless.
pub async fn renew(config: &mut ClientConfig, at_least: Duration) -> Result<Renewed> {
    let _turn = turn(config).await?;
    if reread(config, at_least).await? {
        return Ok(Renewed::FromFile);
    }
    let refresh = config.refresh_token.clone().ok_or_else(|| {
        Error::failed_precondition(format!("the client {} has no refresh token", config.alias))
            .with_hint("run `jmp login`")
    })?;
    let claims = config.token.as_ref().and_then(TokenClaims::read);
    let options = claims.as_ref().and_then(ProviderOptions::of_claims).ok_or_else(|| {
        Error::failed_precondition("no OpenID provider issued the token")
            .with_hint("run `jmp login`")
    })?;
    let provider = Provider::discover(&options.trust_any(config.tls.insecure)).await?;
    match provider.by_refresh_token(&refresh).await {
        Ok(tokens) => {
            config.token = Some(tokens.access);
            if let Some(refresh) = tokens.refresh {
                config.refresh_token = Some(refresh);
            }
        }
        // A program that takes no turns may have used it.
        Err(_) if reread(config, Duration::ZERO).await? => return Ok(Renewed::FromFile),
        Err(error) => return Err(error),
    }
    store(config).await.map(|()| Renewed::FromProvider)
}

/// Gives a client the tokens of a login, in its file, too.
///
/// # Errors
/// Those of the file. If only storing failed, `config` has the new tokens nevertheless.
pub async fn replace(config: &mut ClientConfig, tokens: Tokens) -> Result<()> {
    let _turn = turn(config).await?;
    config.token = Some(tokens.access);
    // That of another login may be of another user.
    config.refresh_token = tokens.refresh;
    store(config).await
}

/// Waits until no other program changes the client's tokens.
async fn turn(config: &ClientConfig) -> Result<Option<ClientLock>> {
    let Some(path) = config.path.clone() else { return Ok(None) };
    blocking(move || ClientConfig::lock(&path)).await.map(Some)
}

/// Takes the tokens of the file. Returns whether its token is another one, and good for long
/// enough.
async fn reread(config: &mut ClientConfig, at_least: Duration) -> Result<bool> {
    let Some(stored) = stored(config).await? else { return Ok(false) };
    let is_other = stored.token.is_some() && stored.token != config.token;
    if stored.token.is_some() {
        config.token = stored.token;
        config.refresh_token = stored.refresh_token;
    }
    let claims = config.token.as_ref().and_then(TokenClaims::read);
    let expires = claims.and_then(|claims| claims.expires);
    let good = SystemTime::now().checked_add(at_least);
    Ok(is_other && good.is_some_and(|good| expires.is_none_or(|expires| expires > good)))
}

/// The client's file as it is now.
async fn stored(config: &ClientConfig) -> Result<Option<ClientConfig>> {
    let Some(path) = config.path.clone() else { return Ok(None) };
    blocking(move || Ok(Some(ClientConfig::load(path)?))).await
}

/// Writes the tokens into the client's file; what else is there stays.
async fn store(config: &ClientConfig) -> Result<()> {
    let Some(mut kept) = stored(config).await? else { return Ok(()) };
    kept.token.clone_from(&config.token);
    kept.refresh_token.clone_from(&config.refresh_token);
    blocking(move || kept.save().map(drop)).await
}
