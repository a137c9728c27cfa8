//! The login service of a lab: where its controller and its provider are.

use std::time::Duration;

use jumpstarter_driver_core::{Error, Result, ResultExt};
use jumpstarter_transfer::SmallRequest;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::address::{self, Plain};

/// How long a request may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// What a login service says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoginHost {
    /// The controller, as HOST:PORT.
    pub endpoint: String,
    /// Where clients are, unless they name another namespace.
    pub namespace: Option<String>,
    /// The authorities of the controller's certificate: base64 of a text in PEM.
    pub authorities: Option<String>,
    /// The OpenID provider; `None` for a controller that knows only its own tokens.
    pub issuer: Option<String>,
    /// What a program is called there.
    pub client: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    grpc_endpoint: String,
    namespace: Option<String>,
    ca_bundle: Option<String>,
    oidc: Option<Vec<Oidc>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Oidc {
    issuer: String,
    client_id: Option<String>,
}

impl LoginHost {
    /// Asks the service at `host`: a name with or without a port, or the beginning of a URL.
    ///
    /// # Errors
    /// `PermissionDenied` for an address without TLS that is not on this machine, unless
    /// `trusts_any`; those of the request; `InvalidArgument` for an answer of another form.
    pub async fn ask(host: &str, trusts_any: bool) -> Result<Self> {
        let plain = if trusts_any { Plain::Anywhere } else { Plain::Loopback };
        let base = if host.contains("://") { host.to_owned() } else { format!("https://{host}") };
        let url = format!("{}/v1/auth/config", base.trim_end_matches('/'));
        address::check("the login service", &url, plain)?;
        let doing = || format!("asking the login service {}", base.trim_end_matches('/'));
        let answer: Answer = get(&url, trusts_any).await.map_err(|error| {
            let hint = error.hint().map(str::to_owned);
            let error = error.context(doing());
            error.with_hint(hint.unwrap_or_else(|| {
                "check the address; without a login service, name --endpoint, --namespace and --issuer"
                    .to_owned()
            }))
        })?;
        let filled = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        let endpoint = filled(Some(answer.grpc_endpoint)).ok_or_else(|| {
            Error::invalid_argument("it names no controller (`grpcEndpoint`)").context(doing())
        })?;
        let provider = answer.oidc.unwrap_or_default().into_iter().next();
        let (issuer, client) = provider.map(|it| (it.issuer, it.client_id)).unzip();
        Ok(Self {
            endpoint,
            namespace: filled(answer.namespace),
            authorities: filled(answer.ca_bundle),
            issuer: filled(issuer),
            client: filled(client.flatten()),
        })
    }
}

/// The JSON at a URL.
pub(crate) async fn get<T: DeserializeOwned>(url: &str, trusts_any: bool) -> Result<T> {
    let request = SmallRequest::new("GET", url)?.header("accept", "application/json")?;
    let request = if trusts_any { request.trust_any()? } else { request };
    let answer = request.send(LIMIT).await.map_err(with_trust)?;
    match answer.is_success() {
        true => read(&answer.body).with_context(|| format!("reading the answer of {url}")),
        false => Err(answer.into_error()),
    }
}

/// Reads JSON. The error has no part of it, which may be a secret.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        let why = match error.classify() {
            serde_json::error::Category::Data => "a field is missing or of another type",
            _ => "it is not JSON",
        };
        Error::invalid_argument(why)
    })
}

/// Adds what to do about a certificate that is not trusted.
pub(crate) fn with_trust(error: Error) -> Error {
    let is_certificate = error.report().contains("certificate");
    match is_certificate && error.hint().is_none() {
        true => error.with_hint(
            "set SSL_CERT_FILE to the authority of its certificate, or use --insecure-tls on a trusted network",
        ),
        false => error,
    }
}
