//! `jmp auth`: the client's token.

use std::io::Write;
use std::time::{Duration, SystemTime};

use jumpstarter_client::lab::Lab;
use jumpstarter_config::{ClientConfig, TokenClaims};
use jumpstarter_driver_core::{Error, Secret};
use jumpstarter_login::{CONTROLLER_ISSUER, renew};

use crate::environment::Environment;
use crate::fault::{Fault, Result, SUCCESS};
use crate::lab::Who;
use crate::print;
use crate::serving::runtime;

/// A token that expires within this time is about to.
const SOON: Duration = Duration::from_secs(300);

/// What to do about a token that a login renews.
pub(crate) const LOG_IN: &str = "Run `jmp login` to refresh your credentials.";

/// Look after the client's token for the controller
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Status(Status),
    Refresh(Refresh),
    Rotate(Rotate),
}

/// Show when the client's token expires, and for whom it is; no controller is asked
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  jmp auth status
  jmp auth status --client me --verbose")]
struct Status {
    #[command(flatten)]
    who: Who,
    /// Show when it was issued, and whether a refresh token is stored, too
    #[arg(short, long)]
    verbose: bool,
}

/// Get a new token for the stored refresh token, from the OpenID provider that issued the old one
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  jmp auth refresh --client me

`jmp login` stores a refresh token, if the provider gives one. `jmp shell` does this by itself.")]
struct Refresh {
    #[command(flatten)]
    who: Who,
}

/// Get a new token of the controller itself, in place of one that has not expired
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  jmp auth rotate --client me

The controller issues it, for a year by default. The old token stays valid until it expires.")]
struct Rotate {
    #[command(flatten)]
    who: Who,
}

pub(crate) fn run(arguments: &Arguments, environment: &Environment) -> Result<u8> {
    let report = match &arguments.command {
        Command::Status(status) => {
            let config = status.who.config(environment)?;
            report(&config, status.verbose, SystemTime::now())
        }
        Command::Refresh(refresh) => {
            let mut config = refresh.who.config(environment)?;
            runtime()?.block_on(refreshed(&mut config))?;
            "Access token refreshed.\n".to_owned()
        }
        Command::Rotate(rotate) => {
            let config = rotate.who.config(environment)?;
            let token = runtime()?.block_on(rotated(config))?;
            new_expiry(&token, SystemTime::now())
        }
    };
    environment.out().write_all(report.as_bytes())?;
    Ok(SUCCESS)
}

async fn refreshed(config: &mut ClientConfig) -> Result<()> {
    let is_set =
        |secret: &Option<Secret>| secret.as_ref().is_some_and(|it| !it.expose().is_empty());
    for (secret, name) in [(&config.refresh_token, "refresh"), (&config.token, "access")] {
        if !is_set(secret) {
            return Err(Error::failed_precondition(format!("No {name} token found."))
                .with_hint("run `jmp login --offline-access`")
                .into());
        }
    }
    renew(config, Duration::MAX).await?;
    Ok(())
}

/// Gets another token of the controller's own, and stores it.
async fn rotated(config: ClientConfig) -> Result<Secret> {
    let token = config.token.as_ref().filter(|token| !token.expose().is_empty());
    let Some(token) = token else {
        return Err(Error::failed_precondition("No token found in config.")
            .with_hint("run `jmp login`, or ask who runs the lab for a token")
            .into());
    };
    let claims = TokenClaims::read(token).unwrap_or_default();
    if claims.expires.is_some_and(|expires| expires <= SystemTime::now()) {
        return Err(Error::failed_precondition("Token is expired. Cannot rotate.")
            .with_hint("ask who runs the lab for a token, and run `jmp config client create`; or `jmp login`")
            .into());
    }
    let Some(path) = &config.path else {
        return Err(Error::failed_precondition("there is no file for the new token")
            .with_hint("name a client with --client ALIAS: that of the environment has no file")
            .into());
    };
    let token = Lab::of_client(&config)?.rotate_token().await?;
    if TokenClaims::read(&token).is_none() {
        let message = "Token rotation failed: invalid token returned.";
        return Err(Error::internal(message).into());
    }
    // What the variables say is not stored.
    let mut kept = ClientConfig::load(path).map_err(|it| Fault::File(it.into(), None))?;
    kept.token = Some(token.clone());
    kept.save()?;
    Ok(token)
}

/// What is said about a new token.
fn new_expiry(token: &Secret, now: SystemTime) -> String {
    let expires = TokenClaims::read(token).and_then(|claims| claims.expires);
    let left = expires.and_then(|expires| Some((expires, expires.duration_since(now).ok()?)));
    match left {
        Some((expires, left)) => format!(
            "Token rotated. New expiry: {} ({} remaining)\n",
            second(expires),
            duration(left)
        ),
        None => "Token rotated.\n".to_owned(),
    }
}

/// The state of a client's token, in upstream's words.
fn report(config: &ClientConfig, is_verbose: bool, now: SystemTime) -> String {
    let Some(token) = config.token.as_ref().filter(|token| !token.expose().is_empty()) else {
        return "No token found in config\n".to_owned();
    };
    let Some(claims) = TokenClaims::read(token) else {
        return "Status: the token is no JSON Web Token, so its expiry is unknown\n".to_owned();
    };
    let mut lines = Vec::new();
    match claims.expires {
        None => lines.push("Token has no expiry claim".to_owned()),
        Some(expires) => {
            lines.push(format!("Token expiry: {}", second(expires)));
            lines.extend(status(&claims, expires, now));
        }
    }
    let named = [("Subject", &claims.subject), ("Issuer", &claims.issuer)];
    lines.extend(named.into_iter().filter_map(|(label, value)| {
        value.as_deref().map(|value| format!("{label}: {}", print::line(value)))
    }));
    if is_verbose {
        let times = [("Issued at", claims.issued), ("Auth time", claims.logged_in)];
        lines.extend(
            times
                .into_iter()
                .filter_map(|(label, time)| time.map(|time| format!("{label}: {}", second(time)))),
        );
        let stored = if config.refresh_token.is_some() { "yes" } else { "no" };
        lines.push(format!("Refresh token stored: {stored}"));
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// What to do about a token that has expired.
pub(crate) fn remedy(claims: &TokenClaims) -> &'static str {
    match claims.issuer.as_deref() {
        Some(CONTROLLER_ISSUER) => "Ask the administrator of the controller for a new token.",
        _ => LOG_IN,
    }
}

/// Whether the token is valid, and what to do if it is not for long.
fn status(claims: &TokenClaims, expires: SystemTime, now: SystemTime) -> Vec<String> {
    let is_internal = claims.issuer.as_deref() == Some(CONTROLLER_ISSUER);
    match expires.duration_since(now) {
        Ok(left) if left >= SOON => {
            vec![format!("Status: Valid ({} remaining)", duration(left))]
        }
        Ok(left) => vec![
            format!("Status: EXPIRING SOON ({} remaining)", duration(left)),
            match is_internal {
                true => "Run `jmp auth rotate` before it expires.".to_owned(),
                false => LOG_IN.to_owned(),
            },
        ],
        Err(past) => vec![
            format!("Status: EXPIRED ({} ago)", duration(past.duration())),
            remedy(claims).to_owned(),
        ],
    }
}

/// `2026-11-28 15:00:00 UTC`
fn second(time: SystemTime) -> String {
    let text = jumpstarter_driver_core::rfc3339(time);
    let second = text.split_once('.').map_or(text.as_str(), |(second, _)| second);
    format!("{} UTC", second.replace('T', " "))
}

/// The two largest units of a time: `2h 30m`, `5m 10s` or `10s`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m {seconds}s"),
        _ => format!("{hours}h {minutes}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_about_to_expire() {
        let mut config = ClientConfig::new("me", "lab", "me");
        assert_eq!(report(&config, false, SystemTime::now()), "No token found in config\n");
        // {"exp": 1000}
        config.token = Some("e30.eyJleHAiOiAxMDAwfQ.x".into());
        let at = |second| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        let expiry = "Token expiry: 1970-01-01 00:16:40 UTC\n";
        for (now, expected) in [
            (700, "Status: Valid (5m 0s remaining)\n"),
            (
                701,
                "Status: EXPIRING SOON (4m 59s remaining)\nRun `jmp login` to refresh your credentials.\n",
            ),
            (4610, "Status: EXPIRED (1h 0m ago)\nRun `jmp login` to refresh your credentials.\n"),
        ] {
            assert_eq!(report(&config, false, at(now)), format!("{expiry}{expected}"));
        }
        // {}
        config.token = Some("e30.e30.x".into());
        let text = report(&config, true, at(0));
        assert_eq!(text, "Token has no expiry claim\nRefresh token stored: no\n");
    }
}
