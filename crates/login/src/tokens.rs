//! The tokens that a provider gives.

use std::time::SystemTime;

use jumpstarter_config::TokenClaims;
use jumpstarter_driver_core::{Error, Result, Secret};
use serde::Deserialize;

use crate::Provider;

/// The longest token that is kept.
const MAX_TOKEN: usize = 64 << 10;

/// An access token, and what renews it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tokens {
    /// What proves to the controller who calls.
    pub access: Secret,
    /// What gets the next access token; `None` if the provider gave none.
    pub refresh: Option<Secret>,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    token_type: Option<String>,
    refresh_token: Option<String>,
    id_token: Option<String>,
}

impl Tokens {
    /// Reads the answer of a provider. With a `nonce` it has an ID token of that login.
    pub(crate) fn read(body: &[u8], provider: &Provider, nonce: Option<&str>) -> Result<Self> {
        let answer: Answer = crate::host::read(body)?;
        if let Some(kind) = answer.token_type.as_deref().filter(|it| !is_bearer(it)) {
            let kind = jumpstarter_text::truncated(kind, 40);
            let message = format!("its token is of the type `{}`", jumpstarter_text::line(&kind));
            return Err(Error::unimplemented(message)
                .with_hint("the controller takes Bearer tokens: ask who runs the provider"));
        }
        if let Some(nonce) = nonce {
            check_identity(answer.id_token, provider, nonce)?;
        }
        Ok(Self {
            access: token(answer.access_token)?,
            refresh: answer.refresh_token.filter(|it| !it.is_empty()).map(token).transpose()?,
        })
    }
}

fn is_bearer(kind: &str) -> bool {
    kind.eq_ignore_ascii_case("bearer") || kind.eq_ignore_ascii_case("n_a")
}

/// A token that a header can carry.
fn token(text: String) -> Result<Secret> {
    let is_usable = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    match is_usable && text.len() <= MAX_TOKEN {
        true => Ok(Secret::new(text)),
        false => Err(Error::invalid_argument("its token is empty, too long or has blanks in it")),
    }
}

/// Checks an ID token, which came from the provider itself, over its connection: its signature
/// would prove nothing more.
fn check_identity(token: Option<String>, provider: &Provider, nonce: &str) -> Result<()> {
    let wrong = |why: &str| {
        Err(Error::permission_denied(format!("its ID token {why}"))
            .with_hint("log in again; if it stays so, ask who runs the provider"))
    };
    let Some(token) = token.map(Secret::new) else { return wrong("is missing") };
    let Some(claims) = TokenClaims::read(&token) else { return wrong("is no JSON Web Token") };
    let client = &provider.options.client;
    if claims.issuer.as_deref() != Some(provider.issuer()) {
        return wrong("is of another issuer");
    }
    if !claims.audiences.contains(client) {
        return wrong("is for another program");
    }
    if claims.expires.is_some_and(|expires| expires <= SystemTime::now()) {
        return wrong("has expired already: check the clock of this machine");
    }
    if claims.nonce.as_deref() != Some(nonce) {
        return wrong("is of another login");
    }
    Ok(())
}
