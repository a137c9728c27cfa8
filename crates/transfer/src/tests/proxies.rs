//! Proxies from the environment.

use super::*;
use jumpstarter_driver_core::ErrorKind;

#[tokio::test]
async fn a_proxy_is_asked_for_the_whole_url() {
    let (proxy, at) = listener().await;
    let settings = settings(&[("HTTP_PROXY", &format!("http://user:p%40ss@{at}"))]);
    let url = "http://images.example:81/a%2fb?sig=%2b";
    let ((asked, _stream), fetched) = tokio::join!(answer(&proxy, HELLO), fetch(url, settings));
    assert_eq!(fetched.unwrap(), b"hello");
    assert!(
        asked.starts_with("GET http://images.example:81/a%2fb?sig=%2b HTTP/1.1\r\n"),
        "{asked}"
    );
    assert!(asked.contains("host: images.example:81\r\n"), "{asked}");
    assert!(asked.contains("proxy-authorization: Basic dXNlcjpwQHNz\r\n"), "{asked}");
}

#[tokio::test]
async fn exempt_hosts_are_reached_without() {
    let (proxy, at) = listener().await;
    let (server, there) = listener().await;
    let settings =
        settings(&[("ALL_PROXY", &format!("http://{at}")), ("NO_PROXY", "10.0.0.0/8,127.0.0.1")]);
    let url = format!("http://{there}/x");
    let ((asked, _stream), fetched) = tokio::join!(answer(&server, HELLO), fetch(&url, settings));
    assert_eq!(fetched.unwrap(), b"hello");
    assert!(asked.starts_with("GET /x HTTP/1.1\r\n"), "{asked}");
    untouched(proxy).await;
}

#[tokio::test]
async fn an_upload_goes_through_it_too() {
    let (proxy, at) = listener().await;
    let settings = settings(&[("http_proxy", &at.to_string())]);
    let serving = async {
        let (mut stream, _) = proxy.accept().await.unwrap();
        let asked = head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        let mut body = Vec::new();
        while !body.ends_with(b"0\r\n\r\n") {
            body.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        asked
    };
    let (asked, sent) =
        tokio::join!(serving, send("http://images.example/out", b"hello", settings));
    sent.unwrap();
    assert!(asked.starts_with("PUT http://images.example/out HTTP/1.1\r\n"), "{asked}");
}

#[tokio::test]
async fn what_a_proxy_refuses_is_said() {
    let (proxy, at) = listener().await;
    for (url, answered, kind, said) in [
        (
            "http://a.example/",
            "407 Proxy Authentication Required",
            ErrorKind::PermissionDenied,
            "USER:PASSWORD",
        ),
        ("http://a.example/", "502 Bad Gateway", ErrorKind::Unavailable, "through the proxy"),
        (
            "https://a.example/",
            "407 Proxy Authentication Required",
            ErrorKind::PermissionDenied,
            "USER:PASSWORD",
        ),
        ("https://a.example/", "403 Forbidden", ErrorKind::Unavailable, "a tunnel to a.example"),
    ] {
        let settings = settings(&[("all_proxy", &format!("http://u:s3cret@{at}"))]);
        let text = format!("HTTP/1.1 {answered}\r\ncontent-length: 0\r\n\r\n");
        let ((_, _stream), fetched) = tokio::join!(answer(&proxy, &text), fetch(url, settings));
        let error = fetched.unwrap_err();
        let report = error.report();
        assert_eq!(error.kind(), kind, "{report}");
        assert!(report.contains(said) && !report.contains("s3cret"), "{report}");
    }
}

#[tokio::test]
async fn names_that_a_proxy_would_look_up_are_judged() {
    let (proxy, at) = listener().await;
    let settings = settings(&[("http_proxy", &at.to_string())]);
    for target in [
        "http://127.1/",
        "http://localhost:81/",
        "http://0x7f000001/",
        "http://10.0.0.1/",
        "http://[::1]/",
    ] {
        let fetching = fetch("http://images.example/", settings.clone());
        let moved = moved(target);
        let ((_, _stream), fetched) = tokio::join!(answer(&proxy, &moved), fetching);
        let error = fetched.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{target}: {}", error.report());
    }
    let error = fetch("http://169.254.169.254/", settings.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{}", error.report());
    untouched(proxy).await;
}

#[tokio::test]
async fn a_setting_allows_an_address_behind_a_proxy() {
    let (proxy, at) = listener().await;
    let settings = settings(&[
        ("http_proxy", &at.to_string()),
        ("JMP_IMAGE_NETWORKS", "192.168.0.0/16\n10.0.0.0/8"),
    ]);
    let serving = async {
        drop(answer(&proxy, &moved("http://10.0.0.1/os.img")).await);
        answer(&proxy, HELLO).await
    };
    let ((asked, _stream), fetched) =
        tokio::join!(serving, fetch("http://images.example/", settings));
    assert_eq!(fetched.unwrap(), b"hello");
    assert!(asked.starts_with("GET http://10.0.0.1/os.img HTTP/1.1\r\n"), "{asked}");
}
