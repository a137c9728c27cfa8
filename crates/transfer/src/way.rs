//! The way of a request: where it goes, with which headers, and where redirects may lead it.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::header::{
    ACCEPT_ENCODING, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, PROXY_AUTHORIZATION,
    USER_AGENT,
};
use hyper::{Method, Request, StatusCode};
use jumpstarter_driver_core::{Error, ErrorKind, Result, ResultExt};

use crate::address::{Reach, literal};
use crate::connect;
use crate::exchange::Body;
use crate::exchange::Io;
use crate::proxy::Proxy;
use crate::settings::{NETWORKS, Settings};
use crate::tls::secure;
use crate::url::Url;

pub(crate) const MAX_REDIRECTS: usize = 10;
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// The headers of a presigned request.
#[derive(Clone)]
pub(crate) struct Headers(HeaderMap);

impl Headers {
    pub(crate) fn new(given: &[(String, String)]) -> Result<Self> {
        // These are the connection's business, and ours.
        const OURS: [&str; 11] = [
            "host",
            "connection",
            "proxy-connection",
            "proxy-authorization",
            "keep-alive",
            "content-length",
            "transfer-encoding",
            "expect",
            "te",
            "trailer",
            "upgrade",
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            let parsed = name.parse::<HeaderName>().ok().zip(value.parse::<HeaderValue>().ok());
            let Some((name, mut value)) = parsed else {
                return Err(Error::invalid_argument(
                    "a header of the presigned request is not usable",
                )
                .with_hint("names are words, values have no line breaks"));
            };
            if !OURS.contains(&name.as_str()) {
                value.set_sensitive(true);
                headers.append(name, value);
            }
        }
        Ok(Self(headers))
    }
}

/// Where a request goes. Redirects change it.
pub(crate) struct Way {
    pub(crate) url: Url,
    headers: Headers,
    settings: Settings,
    /// Where the first URL was, once it was reached.
    first: Option<Reach>,
    /// The proxy that a plain request is sent to.
    asked: Option<Proxy>,
}

impl Way {
    pub(crate) fn new(url: Url, headers: Headers, settings: Settings) -> Self {
        Self { url, headers, settings, first: None, asked: None }
    }

    /// The way to a URL that an answer names: it may lead where a redirect may.
    pub(crate) fn onward(&self, url: Url, headers: Headers) -> Self {
        let settings = self.settings.clone();
        Self { url, headers, settings, first: self.first, asked: None }
    }

    /// Counts known bytes that came again.
    pub(crate) fn count_again(&self, bytes: usize) {
        self.settings.fetched_again.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Connects to the server, or to the proxy before it.
    pub(crate) async fn open(&mut self) -> Result<Box<dyn Io>> {
        let connecting = tokio::time::timeout(CONNECT_LIMIT, self.connect());
        connecting
            .await
            .unwrap_or_else(|_| Err(late(&self.url, "accept a connection", CONNECT_LIMIT)))
    }

    async fn connect(&mut self) -> Result<Box<dyn Io>> {
        let url = &self.url;
        let doing = || format!("connecting to {}", url.authority());
        let proxy = self.settings.proxies.for_url(url)?;
        let (io, reach): (Box<dyn Io>, _) = match &proxy {
            Some(proxy) => {
                let reach = Reach::from_name(&url.host);
                let is_allowed = |address| self.is_allowed(reach, address);
                if !self.admits(reach) && !literal(&url.host).is_some_and(is_allowed) {
                    return Err(self.refusal(reach, &url.host));
                }
                let doing = || format!("{} through {proxy}", doing());
                (connect::through(proxy, url, &self.settings).await.with_context(doing)?, reach)
            }
            None => {
                let found = self.settings.resolve(&url.host, url.port).await.with_context(doing)?;
                let admitted = found.iter().copied().filter(|address| {
                    let (reach, address) = (Reach::from_address(address.ip()), address.ip());
                    self.admits(reach) || self.is_allowed(reach, address)
                });
                let admitted: Vec<_> = admitted.collect();
                if let (Some(refused), true) = (found.first(), admitted.is_empty()) {
                    return Err(
                        self.refusal(Reach::from_address(refused.ip()), &refused.ip().to_string())
                    );
                }
                // What was judged is what is connected to: the name is not looked up again.
                let (stream, address) = connect::to_any(&admitted).await.with_context(doing)?;
                (Box::new(stream), Reach::from_address(address.ip()))
            }
        };
        self.first.get_or_insert(reach);
        self.asked = proxy.filter(|_| !url.tls);
        Ok(match url.tls {
            true => Box::new(
                secure(io, &url.host, self.settings.trust.as_ref()).await.with_context(doing)?,
            ),
            false => io,
        })
    }

    fn admits(&self, next: Reach) -> bool {
        match self.first {
            None if self.settings.trusts_its_urls => true,
            None => !matches!(next, Reach::LinkLocal | Reach::Group),
            Some(first) => first.leads_to(next),
        }
    }

    fn is_allowed(&self, reach: Reach, address: IpAddr) -> bool {
        matches!(reach, Reach::Private | Reach::Loopback) && self.settings.allows(address)
    }

    fn refusal(&self, reach: Reach, address: &str) -> Error {
        let (url, kind) = (&self.url, reach.adjective());
        let is = if address == url.host {
            format!("is a {kind} address")
        } else {
            format!("is at {address}, a {kind} address")
        };
        let (message, hint) = match reach {
            Reach::LinkLocal | Reach::Group => (
                format!("{url} {is}: images are neither fetched from there nor sent there"),
                "give the server an address of another network".to_owned(),
            ),
            _ => (
                format!("a redirect leads to {url}, which {is}; the URL that was asked for is not"),
                format!(
                    "use that URL itself, or list its network in {NETWORKS} where the image is fetched"
                ),
            ),
        };
        Error::permission_denied(message).with_hint(hint)
    }

    /// The request, for the connection that was opened.
    pub(crate) fn request(&self, method: Method, body: Body) -> Result<Request<Body>> {
        let url = &self.url;
        let uri = match self.asked {
            Some(_) => format!("http://{}{}", url.authority(), url.target),
            None => url.target.clone(),
        };
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() =
            uri.parse().map_err(|_| Error::invalid_argument(format!("{url} is not usable")))?;
        *request.headers_mut() = self.headers.0.clone();
        let host = HeaderValue::try_from(url.authority());
        let host =
            host.map_err(|_| Error::invalid_argument(format!("the host of {url} is not usable")))?;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static("jumpstarter"));
        request
            .headers_mut()
            .entry(ACCEPT_ENCODING)
            .or_insert(HeaderValue::from_static("identity"));
        if let Some(authorization) =
            self.asked.as_ref().and_then(|proxy| proxy.authorization.clone())
        {
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization);
        }
        Ok(request)
    }

    /// Goes on to where an answer leads. Given headers stay behind when that is another origin, for
    /// good.
    ///
    /// # Errors
    /// `PermissionDenied`: it leads from https to http.
    pub(crate) fn follow(&mut self, answered: &HeaderMap) -> Result<()> {
        let url = &self.url;
        let location = answered.get(LOCATION);
        let location = location.ok_or_else(|| {
            Error::unavailable(format!(
                "{url} redirects without a location: missing Location header"
            ))
        })?;
        let next = url
            .join(location.as_bytes())
            .with_context(|| format!("following the redirect of {url}"))?;
        if url.tls && !next.tls {
            let message = format!("{url} redirects to {next}: from https to http");
            return Err(Error::permission_denied(message).with_hint(
                "have the server redirect to https; if the network is trusted, use the http URL itself",
            ));
        }
        if !next.same_origin(url) {
            self.headers = Headers(HeaderMap::new());
        }
        self.url = next;
        Ok(())
    }

    pub(crate) fn endless(&self) -> Error {
        let url = &self.url;
        let message =
            format!("{url} redirects more than {MAX_REDIRECTS} times: Too many redirects");
        Error::unavailable(message)
    }

    /// What an answer means that is neither a success nor a redirect.
    pub(crate) fn refused(&self, status: StatusCode) -> Error {
        let kind = match (status, &self.asked) {
            (StatusCode::PROXY_AUTHENTICATION_REQUIRED, Some(proxy)) => {
                return connect::denied(proxy);
            }
            (StatusCode::NOT_FOUND | StatusCode::GONE, _) => ErrorKind::NotFound,
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => ErrorKind::PermissionDenied,
            (status, _) if status.is_server_error() => ErrorKind::Unavailable,
            _ => ErrorKind::FailedPrecondition,
        };
        let through =
            self.asked.as_ref().map(|proxy| format!(" through {proxy}")).unwrap_or_default();
        Error::new(kind, format!("{} answers {status}{through}", self.url))
    }
}

pub(crate) fn redirects(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    )
}

pub(crate) fn late(url: &Url, what: &str, limit: Duration) -> Error {
    Error::deadline_exceeded(format!(
        "{} did not {what} within {} s",
        url.authority(),
        limit.as_secs()
    ))
}
