//! Connections: to addresses that were looked up and judged once, or through a proxy.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use jumpstarter_driver_core::{Error, Result, ResultExt};
use tokio::net::TcpStream;

use crate::exchange::{Driving, Io, broken, nothing};
use crate::proxy::Proxy;
use crate::settings::Settings;
use crate::tls::secure;
use crate::url::Url;

/// An address has so long to answer before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);

/// Connects to the first of these addresses that answers.
pub(crate) async fn to_any(addresses: Vec<SocketAddr>) -> io::Result<(TcpStream, SocketAddr)> {
    let mut waiting = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = None;
    loop {
        match waiting.next() {
            Some(address) => {
                attempts.push(async move { (address, TcpStream::connect(address).await) })
            }
            None if attempts.is_empty() => {
                return Err(failure.unwrap_or_else(|| io::Error::other("the host has no address")));
            }
            None => {}
        }
        tokio::select! {
            Some((address, attempt)) = attempts.next() => match attempt {
                Ok(stream) => return stream.set_nodelay(true).map(|()| (stream, address)),
                Err(error) => failure = failure.or(Some(error)),
            },
            () = tokio::time::sleep(HEAD_START), if waiting.len() > 0 => {}
        }
    }
}

/// Connects to the server of `url` through a proxy: by a tunnel for `https`, else the proxy is
/// asked for the URL itself.
pub(crate) async fn through(proxy: &Proxy, url: &Url, settings: &Settings) -> Result<Box<dyn Io>> {
    let doing = || format!("connecting to {}", proxy);
    let addresses = settings.resolve(&proxy.url.host, proxy.url.port).await.with_context(doing)?;
    let (stream, _) = to_any(addresses).await.with_context(doing)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn every_address_is_tried() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let address = listener.local_addr().unwrap();
        let (_, reached) = to_any(vec![free, address]).await.unwrap();
        assert_eq!(reached, address);
        let error = to_any(vec![free, free]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
        assert!(to_any(Vec::new()).await.is_err());
    }
}
