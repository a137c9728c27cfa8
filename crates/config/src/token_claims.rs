//! What a token says about itself.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jumpstarter_driver_core::Secret;
use serde_json::Value as Json;

/// The claims of a JSON Web Token, not verified: they say when it expires and who issued it, but
/// prove nothing.
///
/// ```
/// use jumpstarter_config::TokenClaims;
///
/// let token = "e30.eyJpc3MiOiJodHRwczovL2xvZ2luLmV4YW1wbGUiLCJleHAiOjB9.c2lnbmF0dXJl".into();
/// let claims = TokenClaims::read(&token).unwrap();
/// assert_eq!(claims.issuer.as_deref(), Some("https://login.example"));
/// assert_eq!(claims.expires, Some(std::time::UNIX_EPOCH));
/// assert_eq!(TokenClaims::read(&"secret".into()), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenClaims {
    /// `exp`: when it expires.
    pub expires: Option<SystemTime>,
    /// `iat`: when it was issued.
    pub issued: Option<SystemTime>,
    /// `auth_time`: when the user logged in.
    pub logged_in: Option<SystemTime>,
    /// `iss`: the service that issued it.
    pub issuer: Option<String>,
    /// `sub`: whom it stands for.
    pub subject: Option<String>,
    /// `aud`: what it is for.
    pub audiences: Vec<String>,
    /// `client_id`, else `azp`: the program that it was issued to.
    pub client: Option<String>,
    /// `nonce`: the login that it belongs to.
    pub nonce: Option<String>,
}

impl TokenClaims {
    /// Reads a token; `None` if it is no JSON Web Token. A claim of another form is left out.
    pub fn read(token: &Secret) -> Option<Self> {
        let mut parts = token.expose().trim().split('.');
        let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
        let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
        let claims: Json = serde_json::from_slice(&payload).ok()?;
        let claims = claims.as_object().filter(|_| parts.next().is_none())?;
        let text = |name: &str| claims.get(name).and_then(Json::as_str).map(str::to_owned);
        let time = |name: &str| {
            let seconds = claims.get(name).and_then(Json::as_f64)?;
            SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
        };
        let audiences = match claims.get("aud") {
            Some(Json::Array(all)) => all.iter().filter_map(Json::as_str).collect(),
            one => one.and_then(Json::as_str).into_iter().collect::<Vec<_>>(),
        };
        Some(Self {
            expires: time("exp"),
            issued: time("iat"),
            logged_in: time("auth_time"),
            issuer: text("iss"),
            subject: text("sub"),
            audiences: audiences.into_iter().map(str::to_owned).collect(),
            client: text("client_id").or_else(|| text("azp")),
            nonce: text("nonce"),
        })
    }
}
