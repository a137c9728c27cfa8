//! An OpenID provider: where its endpoints are, and what is asked of it.

use jumpstarter_config::TokenClaims;
use jumpstarter_driver_core::{Error, Result, ResultExt};
use serde::Deserialize;

use crate::address::{self, Plain};
use crate::host;

/// What a program is called at a provider unless the lab says otherwise.
pub const DEFAULT_CLIENT: &str = "jumpstarter-cli";

/// The issuer of the tokens that a controller signs itself: no provider renews them.
pub const CONTROLLER_ISSUER: &str = "https://localhost:8085";

/// Which provider is asked, and as which program.
#[derive(Clone, Debug)]
pub struct ProviderOptions {
    pub(crate) issuer: String,
    pub(crate) client: String,
    pub(crate) is_offline: bool,
    pub(crate) trusts_any: bool,
}

impl ProviderOptions {
    /// The provider with this address; it is asked for a refresh token, too.
    pub fn new(issuer: impl Into<String>) -> Self {
        let client = DEFAULT_CLIENT.to_owned();
        Self { issuer: issuer.into(), client, is_offline: true, trusts_any: false }
    }

    /// The provider that issued a token, as the program that it was issued to; `None` if the token
    /// names none, or is a controller's own.
    pub fn of_claims(claims: &TokenClaims) -> Option<Self> {
        let issuer = claims.issuer.clone().filter(|issuer| issuer != CONTROLLER_ISSUER)?;
        let options = Self::new(issuer);
        Some(match &claims.client {
            Some(client) => options.client(client),
            None => options,
        })
    }

    /// Whether this provider issued a token, to this program.
    pub fn issued(&self, claims: &TokenClaims) -> bool {
        let same = |issuer: &str| issuer.trim_end_matches('/') == self.issuer.trim_end_matches('/');
        Self::of_claims(claims).is_some_and(|it| same(&it.issuer) && it.client == self.client)
    }

    /// Sets what this program is called there.
    #[must_use]
    pub fn client(mut self, client: impl Into<String>) -> Self {
        self.client = client.into();
        self
    }

    /// Sets whether it is asked for a refresh token.
    #[must_use]
    pub fn offline_access(mut self, is_wanted: bool) -> Self {
        self.is_offline = is_wanted;
        self
    }

    /// Accepts every certificate, and addresses without TLS: a program in between can read
    /// passwords and tokens.
    #[must_use]
    pub fn trust_any(mut self, trusts_any: bool) -> Self {
        self.trusts_any = trusts_any;
        self
    }
}

/// An OpenID provider that was found.
#[derive(Clone, Debug)]
pub struct Provider {
    pub(crate) options: ProviderOptions,
    document: Document,
}

/// What a provider says about itself.
#[derive(Clone, Debug, Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
}

impl Provider {
    /// Asks a provider where its endpoints are.
    ///
    /// # Errors
    /// `PermissionDenied` for an address without TLS, unless it is on this machine or every
    /// certificate is accepted, and for a server that says it is another issuer; those of the
    /// request.
    pub async fn discover(options: &ProviderOptions) -> Result<Self> {
        let plain = if options.trusts_any { Plain::Anywhere } else { Plain::Loopback };
        let issuer = options.issuer.trim_end_matches('/');
        address::check("the issuer", issuer, plain)?;
        let doing = || format!("asking the OpenID provider {issuer}");
        let url = format!("{issuer}/.well-known/openid-configuration");
        let document: Document = host::get(&url, options.trusts_any).await.map_err(|error| {
            let hint = error.hint().map(str::to_owned);
            let hint = hint.unwrap_or_else(|| "check --issuer, and whether it is up".to_owned());
            error.context(doing()).with_hint(hint)
        })?;
        if document.issuer.trim_end_matches('/') != issuer {
            let other = jumpstarter_text::truncated(&document.issuer, 200);
            let other = jumpstarter_text::line(&other);
            let message = format!("it says that it is another issuer, `{other}`");
            return Err(Error::permission_denied(message)
                .with_hint("name the issuer exactly as the provider does")
                .context(doing()));
        }
        let plain = plain.of_endpoints(issuer);
        for (what, url) in [
            ("the authorization endpoint", &document.authorization_endpoint),
            ("the token endpoint", &document.token_endpoint),
            ("the device authorization endpoint", &document.device_authorization_endpoint),
        ] {
            if let Some(url) = url {
                address::check(what, url, plain).with_context(doing)?;
            }
        }
        Ok(Self { options: options.clone(), document })
    }

    /// The provider's address, as it writes it.
    pub fn issuer(&self) -> &str {
        &self.document.issuer
    }

    /// What is asked for.
    pub(crate) fn scope(&self) -> &'static str {
        if self.options.is_offline { "openid profile offline_access" } else { "openid profile" }
    }

    pub(crate) fn authorization_endpoint(&self) -> Result<&str> {
        self.endpoint(&self.document.authorization_endpoint, "logins by a browser")
    }

    pub(crate) fn token_endpoint(&self) -> Result<&str> {
        self.endpoint(&self.document.token_endpoint, "tokens")
    }

    pub(crate) fn device_endpoint(&self) -> Result<&str> {
        self.endpoint(&self.document.device_authorization_endpoint, "device codes")
    }

    fn endpoint<'a>(&self, endpoint: &'a Option<String>, what: &str) -> Result<&'a str> {
        endpoint.as_deref().ok_or_else(|| {
            let issuer = &self.options.issuer;
            Error::unimplemented(format!("the OpenID provider {issuer} has no {what}"))
                .with_hint("log in another way: `jmp login --help` lists them")
        })
    }
}
