//! Connections: to addresses that were looked up and judged once, or through a proxy.

use std::io;
use std::net::SocketAddr;

use hyper::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use jumpstarter_driver_core::{Error, Result, ResultExt, connect_first};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::exchange::{Driving, Io, broken, nothing};
use crate::proxy::Proxy;
use crate::settings::Settings;
use crate::tls::secure;
use crate::url::Url;

/// Connects to the first of these addresses that answers.
pub(crate) async fn to_any(addresses: &[SocketAddr]) -> io::Result<(TcpStream, SocketAddr)> {
    let stream = connect_first(addresses, None).await?;
    let address = stream.peer_addr()?;
    Ok((stream, address))
}

/// The addresses of the server to which [`connect`] connects; `None` if a proxy looks its name up.
///
/// # Errors
/// `InvalidArgument` for what is no host, and for a variable that names no proxy; else those of the
/// system.
pub async fn addresses(host: &str, port: u16) -> Result<Option<Vec<SocketAddr>>> {
    let settings = Settings::from_env()?;
    match settings.proxies.for_url(&url_of(host, port)?)? {
        Some(_) => Ok(None),
        None => Ok(Some(settings.resolve(host, port).await?)),
    }
}

fn url_of(host: &str, port: u16) -> Result<Url> {
    let shown = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    Url::parse(&format!("https://{shown}:{port}/"))
}

/// Connects to a server that speaks TLS, through the proxy that the environment names for it, if
/// any. What is spoken on the connection is the caller's.
///
/// # Errors
/// `InvalidArgument` for what is no host, and for a variable that names no proxy; else the errors
/// of the system and of the proxy.
pub async fn connect(
    host: &str,
    port: u16,
) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>> {
    let url = url_of(host, port)?;
    let settings = Settings::from_env()?;
    let doing = || format!("connecting to {}", url.authority_with_port());
    match settings.proxies.for_url(&url)? {
        Some(proxy) => through(&proxy, &url, &settings).await.with_context(doing),
        None => {
            let addresses = settings.resolve(host, port).await.with_context(doing)?;
            let (stream, _) = to_any(&addresses).await.with_context(doing)?;
            Ok(Box::new(stream) as Box<dyn Io>)
        }
    }
}

/// Connects to the server of `url` through a proxy: by a tunnel for `https`, else the proxy is
/// asked for the URL itself.
pub(crate) async fn through(proxy: &Proxy, url: &Url, settings: &Settings) -> Result<Box<dyn Io>> {
    let doing = || format!("connecting to {}", proxy);
    let addresses = settings.resolve(&proxy.url.host, proxy.url.port).await.with_context(doing)?;
    let (stream, _) = to_any(&addresses).await.with_context(doing)?;
    let io: Box<dyn Io> = match proxy.url.tls {
        true => Box::new(
            secure(stream, &proxy.url.host, settings.trust.as_ref()).await.with_context(doing)?,
        ),
        false => Box::new(stream),
    };
    if url.tls { tunnel(io, proxy, url).await } else { Ok(io) }
}

async fn tunnel(io: Box<dyn Io>, proxy: &Proxy, url: &Url) -> Result<Box<dyn Io>> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(broken)?;
    let driving = Driving::new(connection.with_upgrades());
    let target = url.authority_with_port();
    let unusable = || Error::invalid_argument(format!("the host of {url} is not usable"));
    let mut request = Request::new(nothing());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = target.parse().map_err(|_| unusable())?;
    request.headers_mut().insert(HOST, HeaderValue::try_from(target).map_err(|_| unusable())?);
    if let Some(authorization) = &proxy.authorization {
        request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
    }
    let response = sender.send_request(request).await.map_err(broken)?;
    match response.status() {
        status if status.is_success() => {}
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => return Err(denied(proxy)),
        status => {
            let message = format!("{proxy} answers {status} to a tunnel to {}", url.authority());
            return Err(Error::unavailable(message));
        }
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(broken)?;
    drop(driving);
    Ok(Box::new(TokioIo::new(upgraded)))
}

/// A proxy wants a user and a password.
pub(crate) fn denied(proxy: &Proxy) -> Error {
    let message = format!("{proxy} wants a user and a password, or others");
    Error::permission_denied(message).with_hint(
        "write them into the variable that names the proxy: http://USER:PASSWORD@HOST:PORT",
    )
}
