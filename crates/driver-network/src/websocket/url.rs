//! The URL of a WebSocket.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jumpstarter_driver_core::{Error, Result, Secret};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri};

use crate::endpoint::Endpoint;

/// A URL taken apart. `Display` shows it without the user and the password.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) endpoint: Endpoint,
    pub(super) is_secure: bool,
    shown: String,
    /// `user:password`.
    credentials: Option<Secret>,
}

impl Address {
    /// # Errors
    /// `InvalidArgument` for what is no URL of a WebSocket; the text never has the password.
    pub(super) fn read(url: &str) -> Result<Self> {
        let wrong = |message: String| {
            Error::invalid_argument(message)
                .with_hint("write it as ws://host:port/path, or wss://host/path for TLS")
        };
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(wrong("the URL has no scheme".to_owned()));
        };
        let is_secure = match scheme.to_ascii_lowercase().as_str() {
            "ws" => false,
            "wss" => true,
            _ => return Err(wrong(format!("`{scheme}` is not the scheme of a WebSocket"))),
        };
        let (rest, fragment) = rest.split_once('#').map_or((rest, None), |(a, b)| (a, Some(b)));
        if fragment.is_some() {
            return Err(wrong("a WebSocket's URL has no part behind `#`".to_owned()));
        }
        let length = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(length);
        let (credentials, place) = match authority.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials), place),
            None => (None, authority),
        };
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let shown = format!("{}://{place}{path}", if is_secure { "wss" } else { "ws" });
        let uri: Uri = shown
            .parse()
            .map_err(|error| wrong(format!("`{shown}` is not a URL")).with_source(error))?;
        let usual_port = if is_secure { 443 } else { 80 };
        let port = match place.rsplit_once(':') {
            Some((_, port)) if !port.contains(']') => uri.port_u16().filter(|port| *port > 0),
            _ => Some(usual_port),
        };
        let port = port.ok_or_else(|| wrong(format!("`{place}` has no port from 1 to 65535")))?;
        let host = uri.host().unwrap_or_default();
        if host.is_empty() {
            return Err(wrong("the URL has no host".to_owned()));
        }
        let endpoint = Endpoint::new(host, port);
        let credentials = credentials.map(Secret::new);
        Ok(Self { endpoint, is_secure, shown: shown.clone(), credentials })
    }

    /// The request that opens the WebSocket.
    pub(super) fn request(&self) -> Result<Request> {
        let wrong = |error: &dyn fmt::Display| {
            Error::invalid_argument(format!("no request can be made of {self}: {error}"))
        };
        let mut request = self.shown.as_str().into_client_request().map_err(|e| wrong(&e))?;
        if let Some(credentials) = &self.credentials {
            let encoded = STANDARD.encode(credentials.expose());
            let mut value =
                HeaderValue::try_from(format!("Basic {encoded}")).map_err(|e| wrong(&e))?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        Ok(request)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_shown_without_credentials() {
        for (url, endpoint, shown) in [
            ("ws://board.lab", "board.lab:80", "ws://board.lab/"),
            ("wss://board.lab/a?b=c", "board.lab:443", "wss://board.lab/a?b=c"),
            ("WS://[::1]:8080?x", "[::1]:8080", "ws://[::1]:8080/?x"),
            ("ws://[::1]/x", "[::1]:80", "ws://[::1]/x"),
            ("ws://me:p@ss@host:1/x", "host:1", "ws://host:1/x"),
        ] {
            let address = Address::read(url).unwrap();
            assert_eq!(
                (address.endpoint.to_string().as_str(), address.to_string().as_str()),
                (endpoint, shown)
            );
            assert!(!format!("{address:?}").contains("p@ss"));
        }
        let request = Address::read("ws://me:secret@host/").unwrap().request().unwrap();
        assert_eq!(request.headers()[AUTHORIZATION], "Basic bWU6c2VjcmV0");
        assert_eq!(request.headers()["host"], "host");
    }

    #[test]
    fn what_is_no_websocket_is_refused() {
        for (url, expected) in [
            ("board.lab:80", "has no scheme"),
            ("http://board.lab", "`http` is not the scheme of a WebSocket"),
            ("ws://", "is not a URL"),
            ("ws://host:0/", "has no port from 1 to 65535"),
            ("ws://host:70000/", ""),
            ("ws://host/a b", "is not a URL"),
            ("ws://host/#x", "behind `#`"),
        ] {
            let error = Address::read(url).unwrap_err();
            assert_eq!(error.kind(), jumpstarter_driver_core::ErrorKind::InvalidArgument);
            assert!(
                error.report().contains(expected) && error.hint().is_some(),
                "{url}: {error:?}"
            );
        }
    }
}
