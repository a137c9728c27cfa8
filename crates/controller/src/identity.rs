//! Who calls: the kind, namespace and name of an exporter or a client, and its token.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use http::{HeaderMap, HeaderName, HeaderValue};
use jumpstarter_driver_core::{Error, Result, Secret};

/// What calls a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It offers a device.
    Exporter,
    /// It leases devices.
    Client,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exporter => "Exporter",
            Self::Client => "Client",
        })
    }
}

/// The identity that each call states. Clones share the token.
#[derive(Clone, Debug)]
pub struct Identity {
    kind: Kind,
    namespace: String,
    name: String,
    token: Arc<RwLock<Secret>>,
}

impl Identity {
    /// That of an exporter.
    pub fn exporter(namespace: impl Into<String>, name: impl Into<String>, token: Secret) -> Self {
        Self::new(Kind::Exporter, namespace.into(), name.into(), token)
    }

    /// That of a client.
    pub fn client(namespace: impl Into<String>, name: impl Into<String>, token: Secret) -> Self {
        Self::new(Kind::Client, namespace.into(), name.into(), token)
    }

    fn new(kind: Kind, namespace: String, name: String, token: Secret) -> Self {
        Self { kind, namespace, name, token: Arc::new(RwLock::new(token)) }
    }

    /// What calls.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The namespace in which the controller knows it.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name in that namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the next call proves the identity with.
    pub fn token(&self) -> Secret {
        self.token.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Uses another token from the next call on.
    pub fn set_token(&self, token: Secret) {
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// The metadata of a call.
    ///
    /// # Errors
    /// `InvalidArgument` for a text that cannot be sent.
    pub(crate) fn metadata(&self) -> Result<HeaderMap> {
        let mut headers = bearer(&self.token())?;
        for (key, value) in [
            ("jumpstarter-kind", self.kind.to_string()),
            ("jumpstarter-namespace", self.namespace.clone()),
            ("jumpstarter-name", self.name.clone()),
        ] {
            let value = HeaderValue::try_from(value).map_err(|_| {
                Error::invalid_argument(format!("the {key} has characters that cannot be sent"))
            })?;
            headers.insert(HeaderName::from_static(key), value);
        }
        Ok(headers)
    }
}

/// The metadata of a token.
pub(crate) fn bearer(token: &Secret) -> Result<HeaderMap> {
    let unusable = || Error::invalid_argument("the token has characters that cannot be sent");
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose().trim()))
        .map_err(|_| unusable())?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(http::header::AUTHORIZATION, value)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_states_who_calls() {
        let identity = Identity::exporter("lab", "board", Secret::new("first"));
        identity.clone().set_token(Secret::new("second\n"));
        let headers = identity.metadata().unwrap();
        let get = |key: &str| headers[key].to_str().unwrap().to_owned();
        assert_eq!(get("authorization"), "Bearer second");
        assert_eq!(get("jumpstarter-kind"), "Exporter");
        assert_eq!(
            (get("jumpstarter-namespace"), get("jumpstarter-name")),
            ("lab".into(), "board".into())
        );
        assert!(!format!("{headers:?}{identity:?}").contains("second"), "{headers:?}");
        identity.set_token(Secret::new("a\nb"));
        let error = identity.metadata().unwrap_err();
        assert!(!error.report().contains("a\nb"), "{error:?}");
    }
}
