//! Servers with TLS.

use std::sync::Arc;

use super::*;
use jumpstarter_driver_core::ErrorKind;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

use crate::{Authorities, SmallRequest};

/// A certificate of `secure.example` and `localhost`, and settings that trust it.
fn certified(variables: &[(&str, &str)]) -> (TlsAcceptor, Settings) {
    let names = vec!["secure.example".to_owned(), "localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut settings = settings(variables);
    let trusted = Authorities::from_pem(made.cert.pem().as_bytes()).unwrap();
    settings.trust = Some(trusted.client_config().unwrap());
    settings.names = vec![("secure.example".to_owned(), "127.0.0.1".parse().unwrap())];
    (TlsAcceptor::from(Arc::new(server)), settings)
}

async fn accept(listener: &TcpListener, acceptor: &TlsAcceptor) -> (String, TlsStream<TcpStream>) {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = acceptor.accept(stream).await.unwrap();
    (head(&mut stream).await, stream)
}

#[tokio::test]
async fn a_redirect_never_leads_from_https_to_http() {
    let (server, at) = listener().await;
    let (plain, there) = listener().await;
    let (acceptor, settings) = certified(&[]);
    for put in [false, true] {
        let serving = async {
            let (_, mut stream) = accept(&server, &acceptor).await;
            stream.write_all(moved(&format!("http://{there}/os.img")).as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            stream
        };
        let url = format!("https://secure.example:{}/os.img", at.port());
        let (_stream, outcome) = tokio::join!(serving, async {
            if put {
                send(&url, b"hello", settings.clone()).await
            } else {
                fetch(&url, settings.clone()).await.map(drop)
            }
        });
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{}", error.report());
        assert!(error.report().contains("from https to http"), "{}", error.report());
    }
    untouched(plain).await;
}

#[tokio::test]
async fn an_end_of_tls_without_a_length_proves_nothing() {
    let (server, at) = listener().await;
    let (acceptor, settings) = certified(&[]);
    for says_goodbye in [false, true] {
        let serving = async {
            let (_, mut stream) = accept(&server, &acceptor).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf an image").await.unwrap();
            stream.flush().await.unwrap();
            if says_goodbye {
                stream.shutdown().await.unwrap();
            }
        };
        let url = format!("https://secure.example:{}/os.img", at.port());
        let ((), fetched) = tokio::join!(serving, fetch(&url, settings.clone()));
        assert_eq!(fetched.unwrap_err().kind(), ErrorKind::DataLoss);
    }
}

#[tokio::test]
async fn a_length_that_was_reached_needs_no_goodbye() {
    let (server, at) = listener().await;
    let (acceptor, settings) = certified(&[]);
    let serving = async {
        let (_, mut stream) = accept(&server, &acceptor).await;
        stream.write_all(HELLO.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    };
    let url = format!("https://localhost:{}/os.img", at.port());
    let ((), fetched) = tokio::join!(serving, fetch(&url, settings));
    assert_eq!(fetched.unwrap(), b"hello");
}

#[tokio::test]
async fn a_tunnel_leads_through_a_proxy() {
    let (proxy, at) = listener().await;
    let (acceptor, settings) = certified(&[("https_proxy", &format!("http://user@{at}"))]);
    let serving = async {
        let (asked, stream) = answer(&proxy, "HTTP/1.1 200 Connection established\r\n\r\n").await;
        let mut stream = acceptor.accept(stream).await.unwrap();
        let inner = head(&mut stream).await;
        stream.write_all(HELLO.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        (asked, inner)
    };
    let ((asked, inner), fetched) =
        tokio::join!(serving, fetch("https://secure.example/os.img?sig=s3cret", settings));
    assert_eq!(fetched.unwrap(), b"hello");
    assert!(asked.starts_with("CONNECT secure.example:443 HTTP/1.1\r\n"), "{asked}");
    assert!(
        asked.contains("proxy-authorization: Basic dXNlcjo=\r\n") && !asked.contains("s3cret"),
        "{asked}"
    );
    assert!(inner.starts_with("GET /os.img?sig=s3cret HTTP/1.1\r\n"), "{inner}");
    assert!(!inner.contains("proxy-authorization"), "{inner}");
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_refused() {
    let (server, at) = listener().await;
    let (acceptor, _) = certified(&[]);
    let (_, settings) = certified(&[]);
    let serving = async {
        let (stream, _) = server.accept().await.unwrap();
        acceptor.accept(stream).await.is_err()
    };
    let url = format!("https://secure.example:{}/", at.port());
    let (is_refused, fetched) = tokio::join!(serving, fetch(&url, settings));
    assert!(is_refused && fetched.is_err());
}

#[tokio::test]
async fn every_certificate_is_accepted_where_that_is_asked_for() {
    let (server, at) = listener().await;
    let (acceptor, _) = certified(&[]);
    let serving = async {
        loop {
            let (stream, _) = server.accept().await.unwrap();
            // The first client does not trust the certificate.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            head(&mut stream).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
            stream.flush().await.unwrap();
        }
    };
    let limit = std::time::Duration::from_secs(60);
    let asking = async {
        let request = SmallRequest::new("GET", &format!("https://localhost:{}/", at.port()));
        let request = request.unwrap();
        let error = request.send(limit).await.unwrap_err();
        assert!(error.report().contains("certificate"), "{}", error.report());
        request.trust_any().unwrap().send(limit).await.unwrap().body
    };
    let body = tokio::select! {
        () = serving => unreachable!("it serves for ever"),
        body = asking => body,
    };
    assert_eq!(&body[..], b"ok");
}
