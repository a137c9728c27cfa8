//! Requests for tokens, and what a refusal means.

use http::StatusCode;
use jumpstarter_driver_core::{Error, ErrorKind, Result, ResultExt, Secret};
use jumpstarter_transfer::SmallRequest;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::host::{LIMIT, with_trust};
use crate::{Provider, Tokens};

const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// How much of a refusal is shown.
const SHOWN: usize = 300;

/// The fields of a form.
pub(crate) type Fields<'a> = [(&'a str, &'a str)];

/// A form, encoded for a body or a query.
pub(crate) fn encoded(fields: &Fields<'_>) -> String {
    let encode = |text| utf8_percent_encode(text, KEPT);
    let pairs = fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// Why a provider refuses.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Refusal {
    pub(crate) error: String,
    error_description: Option<String>,
}

/// The answer of a provider.
pub(crate) enum Answered {
    Granted(Vec<u8>),
    Refused(Refusal, Error),
}

impl Provider {
    /// Gets new tokens for a refresh token. Without a new refresh token the old one stays valid.
    ///
    /// # Errors
    /// `Unauthenticated` for a refresh token that has expired, or was used before.
    pub async fn by_refresh_token(&self, token: &Secret) -> Result<Tokens> {
        let fields = [("grant_type", "refresh_token"), ("refresh_token", token.expose())];
        self.tokens("renewing the token", &fields, None).await
    }

    /// Gets tokens for a user name and a password.
    ///
    /// # Errors
    /// `Unauthenticated` for a wrong password, `Unimplemented` if the provider offers no such way.
    pub async fn by_password(&self, user: &str, password: &Secret) -> Result<Tokens> {
        let fields = [
            ("grant_type", "password"),
            ("username", user),
            ("password", password.expose()),
            ("scope", self.scope()),
        ];
        self.tokens("logging in with a password", &fields, None).await
    }

    /// Gets tokens for a token of another issuer. `connector` is what the provider Dex calls that
    /// issuer.
    ///
    /// # Errors
    /// `Unauthenticated` for a token that is not accepted, `Unimplemented` if the provider offers
    /// no such way.
    pub async fn by_exchange(&self, token: &Secret, connector: Option<&str>) -> Result<Tokens> {
        let mut fields = vec![
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"),
            ("subject_token", token.expose()),
            ("scope", self.scope()),
        ];
        fields.extend(connector.map(|connector| ("connector_id", connector)));
        self.tokens("exchanging the token", &fields, None).await
    }

    /// Asks the token endpoint.
    pub(crate) async fn tokens(
        &self,
        doing: &str,
        fields: &Fields<'_>,
        nonce: Option<&str>,
    ) -> Result<Tokens> {
        let url = self.token_endpoint()?;
        let doing = || format!("{doing} at {url}");
        match self.post(url, fields).await.with_context(doing)? {
            Answered::Granted(body) => Tokens::read(&body, self, nonce).with_context(doing),
            Answered::Refused(_, error) => Err(error.context(doing())),
        }
    }

    /// Sends a form, as this program.
    pub(crate) async fn post(&self, url: &str, fields: &Fields<'_>) -> Result<Answered> {
        let client = ("client_id", self.options.client.as_str());
        let body = encoded(&[&[client], fields].concat());
        let request = SmallRequest::new("POST", url)?
            .header("content-type", "application/x-www-form-urlencoded")?
            .header("accept", "application/json")?
            .body(body)
            .without_redirects();
        let request = if self.options.trusts_any { request.trust_any()? } else { request };
        let answer = request.send(LIMIT).await.map_err(with_trust)?;
        if answer.is_success() {
            return Ok(Answered::Granted(answer.body.to_vec()));
        }
        let refusal: Refusal = serde_json::from_slice(&answer.body).unwrap_or_default();
        let error = refusal.explain(answer.status(), fields);
        Ok(Answered::Refused(refusal, error))
    }
}

impl Refusal {
    /// The error. What was sent is not in it, should the server repeat it.
    pub(crate) fn explain(&self, status: u16, sent: &Fields<'_>) -> Error {
        let status = StatusCode::from_u16(status).map(|it| it.to_string()).unwrap_or_default();
        let (kind, hint) = match self.error.as_str() {
            "invalid_grant" => (ErrorKind::Unauthenticated, hint_of_grant(sent)),
            // Dex's answer to a wrong password.
            "access_denied" if grant_type(sent) == Some("password") => {
                (ErrorKind::Unauthenticated, hint_of_grant(sent))
            }
            "invalid_client" | "unauthorized_client" => (
                ErrorKind::PermissionDenied,
                "name a program that the provider knows, without a secret, with --client-id",
            ),
            "unsupported_grant_type" => (
                ErrorKind::Unimplemented,
                "the provider offers no such login: use the browser, or --device-flow",
            ),
            "invalid_scope" => (
                ErrorKind::FailedPrecondition,
                "if it gives no refresh tokens, log in with --no-offline-access",
            ),
            "access_denied" => (ErrorKind::PermissionDenied, "log in again, and agree"),
            "expired_token" => {
                (ErrorKind::DeadlineExceeded, "log in again, and open the page sooner")
            }
            _ if status.starts_with('5') => (ErrorKind::Unavailable, "try again later"),
            _ => (ErrorKind::FailedPrecondition, "ask who runs the provider"),
        };
        let mut said = match (self.error.as_str(), &self.error_description) {
            ("", _) => format!("it answers {status}"),
            (error, None) => format!("it refuses: {error}"),
            (error, Some(why)) => format!("it refuses: {error}: {why}"),
        };
        for (name, value) in sent {
            if SECRET_FIELDS.contains(name) && !value.is_empty() {
                said = said.replace(value, "***");
            }
        }
        let said = jumpstarter_text::truncated(&said, SHOWN);
        Error::new(kind, jumpstarter_text::line(&said)).with_hint(hint)
    }
}

/// The fields of forms that hold secrets.
const SECRET_FIELDS: [&str; 6] =
    ["refresh_token", "password", "subject_token", "code", "code_verifier", "device_code"];

/// The way to a token that was asked for.
fn grant_type<'a>(sent: &Fields<'a>) -> Option<&'a str> {
    sent.iter().find(|(name, _)| *name == "grant_type").map(|(_, value)| *value)
}

/// What to do about a grant that is not accepted.
fn hint_of_grant(sent: &Fields<'_>) -> &'static str {
    match grant_type(sent) {
        Some("password") => "check the user name and the password",
        Some("refresh_token") => "run `jmp login`",
        Some(grant) if grant.ends_with("token-exchange") => "check --token and --connector-id",
        _ => "log in again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_repeats_no_secret() {
        let refusal = Refusal {
            error: "invalid_grant".to_owned(),
            error_description: Some("hush is\u{1b}[2J wrong for me".to_owned()),
        };
        let sent = [("grant_type", "password"), ("username", "me"), ("password", "hush")];
        let error = refusal.explain(400, &sent);
        let report = error.report();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        assert!(!report.contains("hush") && report.contains("wrong for me"), "{report}");
        assert!(report.contains("check the user name") && !report.contains('\u{1b}'), "{report}");
        let refusal = Refusal { error: "access_denied".to_owned(), ..refusal };
        let error = refusal.explain(401, &sent);
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        assert!(error.report().contains("check the user name"), "{}", error.report());
        let error = Refusal::default().explain(502, &sent);
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.report().contains("502 Bad Gateway"), "{}", error.report());
    }

    #[test]
    fn forms_are_encoded() {
        let fields = [("a b", "x&y=\u{fc}+%"), ("scope", "openid profile")];
        assert_eq!(encoded(&fields), "a%20b=x%26y%3D%C3%BC%2B%25&scope=openid%20profile");
    }
}
