//! `jmp auth`: the client's token.

use std::io::Write;
use std::time::{Duration, SystemTime};

use jumpstarter_config::{ClientConfig, TokenClaims};

use crate::environment::Environment;
use crate::fault::{Result, SUCCESS};
use crate::lab::Who;
use crate::print;

/// A token that expires within this time is about to.
const SOON: Duration = Duration::from_secs(300);

/// The issuer of tokens that a controller signs itself: no login renews them.
const INTERNAL: &str = "https://localhost:8085";

/// Look after the client's token for the controller
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Status(Status),
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

pub(crate) fn run(arguments: &Arguments, environment: &Environment) -> Result<u8> {
    let Command::Status(status) = &arguments.command;
    let config = status.who.config(environment)?;
    let report = report(&config, status.verbose, SystemTime::now());
    environment.out().write_all(report.as_bytes())?;
    Ok(SUCCESS)
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

/// Whether the token is valid, and what to do if it is not for long.
fn status(claims: &TokenClaims, expires: SystemTime, now: SystemTime) -> Vec<String> {
    let is_internal = claims.issuer.as_deref() == Some(INTERNAL);
    match expires.duration_since(now) {
        Ok(left) if left >= SOON => {
            vec![format!("Status: Valid ({} remaining)", duration(left))]
        }
        Ok(left) => vec![
            format!("Status: EXPIRING SOON ({} remaining)", duration(left)),
            match is_internal {
                true => "Run `jmp auth rotate` before it expires.".to_owned(),
                false => "Run `jmp login` to refresh your credentials.".to_owned(),
            },
        ],
        Err(past) => vec![
            format!("Status: EXPIRED ({} ago)", duration(past.duration())),
            match is_internal {
                true => "Ask the administrator of the controller for a new token.".to_owned(),
                false => "Run `jmp login` to refresh your credentials.".to_owned(),
            },
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
fn duration(time: Duration) -> String {
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
