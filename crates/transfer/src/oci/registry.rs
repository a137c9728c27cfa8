//! Requests to a registry, and the tokens that it wants.

use hyper::StatusCode;
use hyper::header::{HeaderMap, WWW_AUTHENTICATE};
use jumpstarter_driver_core::image::ImageRequest;
use jumpstarter_driver_core::{Error, Result, ResultExt};

use super::credentials;
use super::manifest::{ACCEPTED, Manifest, check_digest, is_digest};
use super::reference::Reference;
use crate::exchange::{Answer, whole};
use crate::get::{Asked, ask};
use crate::settings::Settings;
use crate::url::Url;
use crate::way::{Headers, Way};

/// The largest manifest, in bytes: registries must accept this size.
const MANIFEST_LIMIT: usize = 4 << 20;
/// The largest answer with a token, in bytes.
const TOKEN_LIMIT: usize = 1 << 20;

/// The repository, and what it was shown.
pub(crate) struct Registry {
    reference: Reference,
    /// Credentials of the caller.
    given: Option<String>,
    /// The header of the next requests. A registry gets none before it asks for it.
    authorization: Option<String>,
    settings: Settings,
}

impl Registry {
    pub(crate) fn new(reference: &Reference, request: &ImageRequest, settings: Settings) -> Self {
        let given = request.headers().iter();
        let mut given = given.filter(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        Self {
            reference: reference.clone(),
            given: given.next().map(|(_, value)| value.clone()),
            authorization: None,
            settings,
        }
    }

    /// The manifest of a tag or digest.
    pub(crate) async fn manifest(&mut self, version: &str) -> Result<Manifest> {
        let (_, answer) = self.get(&format!("manifests/{version}")).await?;
        let bytes = whole(answer, MANIFEST_LIMIT).await.context("reading the image's manifest")?;
        if is_digest(version) {
            check_digest(&bytes, version)?;
        }
        Manifest::parse(&bytes)
    }

    /// The answer with a layer.
    pub(crate) async fn blob(&mut self, digest: &str) -> Result<(Way, Answer)> {
        self.get(&format!("blobs/{digest}")).await
    }

    async fn get(&mut self, path: &str) -> Result<(Way, Answer)> {
        let Reference { repository, .. } = &self.reference;
        let url = Url::parse(&format!("{}/v2/{repository}/{path}", self.reference.server()))?;
        let mut is_retry = false;
        loop {
            let mut headers = vec![("accept".to_owned(), ACCEPTED.to_owned())];
            headers.extend(self.authorization.as_deref().map(authorization));
            let mut way = Way::new(url.clone(), Headers::new(&headers)?, self.settings.clone());
            let answer = ask(&mut way, Asked::image()).await?;
            match answer.status() {
                StatusCode::OK => return Ok((way, answer)),
                // A store that the registry redirects to gets no credentials.
                StatusCode::UNAUTHORIZED if !is_retry && way.url.same_origin(&url) => {
                    is_retry = true;
                    self.authorize(&way, answer.headers()).await?;
                }
                status => return Err(self.explained(status, way.refused(status))),
            }
        }
    }

    /// Does what an answer asks for: sends the credentials, or gets a token.
    async fn authorize(&mut self, way: &Way, headers: &HeaderMap) -> Result<()> {
        let challenges = headers.get_all(WWW_AUTHENTICATE).iter();
        let challenges: Vec<_> = challenges.filter_map(|header| header.to_str().ok()).collect();
        let is = |scheme: &'static str| {
            let mut all = challenges.iter().filter_map(|text| text.split_once(' '));
            all.find(|(name, _)| name.eq_ignore_ascii_case(scheme)).map(|(_, rest)| rest)
        };
        let credentials = self.credentials().await?;
        if let Some(bearer) = is("bearer") {
            self.authorization = Some(self.token(way, bearer, credentials).await?);
        } else if is("basic").is_some() && credentials.is_some() {
            self.authorization = credentials;
        } else {
            let status = StatusCode::UNAUTHORIZED;
            return Err(self.explained(status, way.refused(status)));
        }
        Ok(())
    }

    async fn credentials(&self) -> Result<Option<String>> {
        if self.given.is_some() {
            return Ok(self.given.clone());
        }
        let reference = self.reference.clone();
        let variable = |name: &str| std::env::var(name).ok();
        let finding = tokio::task::spawn_blocking(move || credentials::find(&reference, variable));
        finding.await.map_err(|error| Error::internal("reading credentials").with_source(error))
    }

    /// A token to pull from the repository, of the server that the registry names.
    async fn token(
        &self,
        way: &Way,
        challenge: &str,
        credentials: Option<String>,
    ) -> Result<String> {
        let doing = || format!("getting a token for {}", self.reference.registry);
        let realm = parameter(challenge, "realm").ok_or_else(|| {
            Error::unavailable("the registry asks for a token, and does not say where to get it")
        })?;
        let separator = if realm.contains('?') { '&' } else { '?' };
        // Never more rights than to read, whatever the registry asks for.
        let mut url =
            format!("{realm}{separator}scope=repository:{}:pull", self.reference.repository);
        if let Some(service) = parameter(challenge, "service") {
            url += &format!("&service={}", escaped(service));
        }
        let url = Url::parse(&url).with_context(doing)?;
        if !url.tls && !self.reference.is_plain() {
            let message = format!("{url} gives the registry's tokens without TLS");
            return Err(Error::permission_denied(message)
                .with_hint("have the registry name an https address"));
        }
        let headers: Vec<_> = credentials.as_deref().map(authorization).into_iter().collect();
        let mut way = way.onward(url, Headers::new(&headers)?);
        let answer = ask(&mut way, Asked::image()).await.with_context(doing)?;
        let status = answer.status();
        if status != StatusCode::OK {
            return Err(self.explained(status, way.refused(status)).context(doing()));
        }
        let bytes = whole(answer, TOKEN_LIMIT).await.with_context(doing)?;
        let answer: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let token = ["token", "access_token"].iter().find_map(|name| answer.get(name)?.as_str());
        let token = token.filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| Error::unavailable("the answer holds no token"));
        Ok(format!("Bearer {}", token.with_context(doing)?))
    }

    fn explained(&self, status: StatusCode, error: Error) -> Error {
        let registry = &self.reference.registry;
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => error.with_hint(format!(
                "run `podman login {registry}` where the image is fetched, or set OCI_REGISTRY, OCI_USERNAME and OCI_PASSWORD there"
            )),
            StatusCode::NOT_FOUND => error.with_hint("check the repository and the tag"),
            _ => error,
        }
    }
}

fn authorization(value: &str) -> (String, String) {
    ("authorization".to_owned(), value.to_owned())
}

/// The value of a parameter in a challenge: `realm="https://…",service="…"`.
fn parameter<'a>(challenge: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = challenge;
    while let Some((key, value)) = rest.split_once('=') {
        let key = key.trim_matches([' ', ',']);
        let (value, next) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => value.split_once(',').unwrap_or((value, "")),
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = next;
    }
    None
}

/// As a value of a query.
fn escaped(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte);
    text.bytes()
        .map(|byte| match is_plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let text = r#"realm="https://a.b/t?x=1,2", service=plain,scope="repository:a:pull,push""#;
        assert_eq!(parameter(text, "Realm"), Some("https://a.b/t?x=1,2"));
        assert_eq!(parameter(text, "service"), Some("plain"));
        assert_eq!(parameter(text, "scope"), Some("repository:a:pull,push"));
        assert_eq!(parameter(text, "error"), None);
        assert_eq!(parameter("", "realm"), None);
        assert_eq!(parameter("realm=\"open", "realm"), None);
    }
}
