//! A login with a browser of this machine: authorization code with PKCE (RFC 7636, RFC 8252).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jumpstarter_driver_core::{Error, Result, ResultExt};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

use crate::callback::Callback;
use crate::grant::encoded;
use crate::{Provider, Tokens};

/// How long the browser may take.
const LIMIT: Duration = Duration::from_secs(600);

/// A login that waits for the browser. Dropping it gives up its port.
#[derive(Debug)]
pub struct BrowserLogin<'a> {
    provider: &'a Provider,
    callback: Callback,
    url: String,
    redirect: String,
    nonce: String,
    verifier: String,
}

impl Provider {
    /// Begins a login with a browser, which comes back to `port` of 127.0.0.1; 0 is any free one.
    ///
    /// # Errors
    /// The errors of listening; `Unimplemented` if the provider has no such way.
    pub async fn browser_login(&self, port: u16) -> Result<BrowserLogin<'_>> {
        let endpoint = self.authorization_endpoint()?;
        let [state, nonce, verifier] = [random()?, random()?, random()?];
        let callback = Callback::listen(port, state, self.issuer().to_owned()).await?;
        // The name, since providers know redirects by it; what listens is 127.0.0.1 alone.
        let redirect = format!("http://localhost:{}/callback", callback.port());
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
        let fields = [
            ("response_type", "code"),
            ("client_id", &self.options.client),
            ("redirect_uri", &redirect),
            ("scope", self.scope()),
            ("state", callback.state()),
            ("nonce", &nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        let mark = if endpoint.contains('?') { '&' } else { '?' };
        let url = format!("{endpoint}{mark}{}", encoded(&fields));
        Ok(BrowserLogin { provider: self, callback, url, redirect, nonce, verifier })
    }
}

impl BrowserLogin<'_> {
    /// The page that the user opens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits for the browser, for at most ten minutes, and gets the tokens.
    ///
    /// # Errors
    /// `DeadlineExceeded` if the user does not come back, `PermissionDenied` if the login was
    /// declined; those of the provider.
    pub async fn finish(self) -> Result<Tokens> {
        let code = tokio::time::timeout(LIMIT, self.callback.code()).await.unwrap_or_else(|_| {
            let minutes = LIMIT.as_secs() / 60;
            Err(Error::deadline_exceeded(format!("nobody logged in within {minutes} minutes"))
                .with_hint("log in again; on a machine without a browser, add --device-flow"))
        });
        let code = code.with_context(|| format!("logging in at {}", self.provider.issuer()))?;
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", &self.redirect),
            ("code_verifier", &self.verifier),
        ];
        self.provider.tokens("getting the token", &fields, Some(&self.nonce)).await
    }
}

/// 256 random bits, as a URL has them.
fn random() -> Result<String> {
    let mut bytes = [0; 32];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Error::internal("the system has no random numbers"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
