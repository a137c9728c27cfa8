//! Switches with a web interface, over real connections.
#![cfg(feature = "http")]
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::serde_json::{Value, json};
use jumpstarter_driver_power as _;
use support::{Asked, Server, open, power, readings, with};

const NAME: &str = "jumpstarter_driver_http_power.driver.HttpPower";

fn plug(asked: &Asked) -> Option<(&'static str, String)> {
    let path = asked.line.split([' ', '?']).nth(1).unwrap();
    Some(match path {
        "/on" | "/off" => ("200 OK", "done".to_owned()),
        "/read" => ("200 OK", r#"{"voltage": 12.0, "emeter": {"i": "2.5"}}"#.to_owned()),
        "/created" => ("201 Created", String::new()),
        "/broken" => ("500 Internal Server Error", "relay\n\u{1b}stuck".to_owned()),
        "/denied" => ("401 Unauthorized", String::new()),
        "/slow" => return None,
        _ => ("404 Not Found", String::new()),
    })
}

fn config(server: &Server) -> Value {
    json!({
        "name": "plug",
        "power_on": { "url": server.url("/on"), "method": "post", "data": "power=on" },
        "power_off": { "url": server.url("/off?x=1#y"), "data": "not sent with GET" },
        "power_read": { "url": server.url("/read"), "current_path": "emeter.i" },
        "timeout": "60s",
    })
}

#[tokio::test]
async fn requests_are_as_configured() {
    let server = Server::start(plug).await;
    let auth = json!({ "basic": { "user": "me", "password": "hush" } });
    let config = with(config(&server), "auth", auth);
    let device = open(NAME, with(config, "headers", json!({ "X-Key": "k" }))).await.unwrap();
    power(&device).on().await.unwrap();
    assert_eq!(readings(&*power(&device)).await.unwrap(), [(12.0, 2.5)]);
    let asked = server.take();
    assert_eq!(asked[0].line, "POST /on HTTP/1.1");
    assert_eq!(asked[0].body, "power=on");
    let headers: Vec<&str> = asked[0].head.lines().collect();
    assert!(headers.contains(&"authorization: basic bwu6ahvzaa=="), "{headers:?}");
    assert!(headers.contains(&"x-key: k"), "{headers:?}");
    assert_eq!(asked[1].line, "GET /read HTTP/1.1");
    device.close().await.unwrap();
    assert!(server.take().is_empty(), "a close changes nothing unless configured");
}

#[tokio::test]
async fn the_end_of_a_lease_switches_off_where_that_is_configured() {
    let server = Server::start(plug).await;
    let device = open(NAME, with(config(&server), "close", json!("off"))).await.unwrap();
    device.close().await.unwrap();
    let lines: Vec<_> = server.take().into_iter().map(|asked| (asked.line, asked.body)).collect();
    assert_eq!(lines, [("GET /off?x=1 HTTP/1.1".to_owned(), String::new())]);
}

#[tokio::test]
async fn a_switch_that_was_not_seen_to_work_is_an_error() {
    let server = Server::start(plug).await;
    let check = async |endpoint: Value, expected: Option<(ErrorKind, &str)>| {
        let config = with(config(&server), "power_on", endpoint.clone());
        let is_late = matches!(expected, Some((ErrorKind::DeadlineExceeded, _)));
        let timeout = if is_late { "500ms" } else { "60s" };
        let device = open(NAME, with(config, "timeout", json!(timeout))).await.unwrap();
        let switched = power(&device).on().await;
        match (switched, expected) {
            (Ok(()), None) => {}
            (Err(error), Some((kind, text))) => {
                let report = error.report();
                assert!(error.kind() == kind && report.contains(text), "{endpoint}: {report}");
                assert!(report.starts_with("switching plug on"), "{report}");
            }
            (switched, expected) => panic!("{endpoint}: {switched:?}, not {expected:?}"),
        }
    };
    let url = |path: &str| json!({ "url": server.url(path) });
    check(url("/created"), None).await;
    check(with(url("/created"), "expect", json!([201, 204])), None).await;
    check(with(url("/denied"), "expect", json!([401])), None).await;
    check(
        with(url("/created"), "expect", json!([200])),
        Some((ErrorKind::FailedPrecondition, "201 Created")),
    )
    .await;
    check(url("/broken"), Some((ErrorKind::Unavailable, "it says: relay\\n\\u{1b}stuck"))).await;
    check(url("/denied"), Some((ErrorKind::PermissionDenied, "401"))).await;
    check(url("/gone"), Some((ErrorKind::NotFound, "404"))).await;
    check(url("/slow"), Some((ErrorKind::DeadlineExceeded, "did not answer within"))).await;
    let free = jumpstarter_driver_testkit::reserve_port();
    let nobody = json!({ "url": format!("http://127.0.0.1:{free}/on") });
    check(nobody, Some((ErrorKind::Unavailable, "refused"))).await;
}

#[tokio::test]
async fn https_trusts_the_configured_authority_alone() {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, issued.cert.pem()).unwrap();
    let key = tokio_rustls::rustls::pki_types::PrivateKeyDer::try_from(
        issued.signing_key.serialize_der(),
    )
    .unwrap();
    let provider = std::sync::Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let tls = tokio_rustls::rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .unwrap();
    let tls = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(tls));
    let server = Server::with_tls(plug, Some(tls)).await;
    let on = json!({ "url": format!("https://localhost:{}/on", server.address.port()) });
    let config = with(config(&server), "power_on", on);
    let device = open(NAME, with(config.clone(), "ca", json!(ca))).await.unwrap();
    power(&device).on().await.unwrap();
    let device = open(NAME, config.clone()).await.unwrap();
    let report = power(&device).on().await.unwrap_err().report();
    assert!(report.contains("securing the connection"), "{report}");
    std::fs::write(&ca, "nothing").unwrap();
    let error = open(NAME, with(config, "ca", json!(ca))).await.err().unwrap();
    assert!(error.report().contains("there is no certificate in it"), "{}", error.report());
}

#[tokio::test]
async fn configurations_that_cannot_work_are_refused() {
    let server = Server::start(plug).await;
    let check = async |field: &str, value: Value, expected: &str| {
        let config = with(config(&server), field, value);
        let error = open(NAME, config).await.expect_err("it is refused");
        let report = error.report();
        assert!(report.contains(expected) && !report.contains("hush"), "{report}");
    };
    check("power_on", json!({ "url": "plug/on" }), "power_on: the URL is not usable").await;
    check("power_on", json!({ "url": "http://a:hush@/" }), "power_on: the URL is not usable").await;
    check("power_off", json!({ "url": "http://x", "method": "G T" }), "none of HTTP").await;
    check("power_off", json!({ "url": "http://x", "expect": [20] }), "power_off.expect").await;
    check("power_read", json!({ "url": "http://x", "headers": { "a b": "hush" } }), "power_read")
        .await;
    check("timeout", json!(0), "timeout: leaves a request no time").await;
    check("auth", json!({ "digest": {} }), "digest").await;
}

/// A power strip with the password `1`, whose third socket is stuck.
fn strip(asked: &Asked) -> Option<(&'static str, String)> {
    let page =
        |states: &str| Some(("200 OK", format!("<script>var sockstates = {states};</script>")));
    match (asked.line.as_str(), asked.body.as_str()) {
        ("POST /login.html HTTP/1.1", "pw=1") => page("[0,0,0,0]"),
        ("POST /login.html HTTP/1.1", _) => {
            Some(("200 OK", "<form><input type=password name=\"pw\"></form>".to_owned()))
        }
        ("POST / HTTP/1.1", "cte1=1") => page("[1,0,0,0]"),
        ("POST / HTTP/1.1", "cte2=1") => Some(("200 OK", "Switch turned ON".to_owned())),
        // Somebody else logged in meanwhile.
        ("POST / HTTP/1.1", "cte2=0") => {
            Some(("200 OK", "<form><input type=password name=\"pw\"></form>".to_owned()))
        }
        ("POST / HTTP/1.1", "cte4=1") => Some(("503 Service Unavailable", String::new())),
        ("POST / HTTP/1.1", _) => page("[0,0,0,0]"),
        _ => Some(("404 Not Found", String::new())),
    }
}

#[tokio::test]
async fn an_energenie_strip_is_switched_and_believed() {
    let server = Server::start(strip).await;
    let switch = async |slot: u8, password: &str| {
        let host = server.address.to_string();
        let config = json!({ "host": host, "slot": slot, "password": password });
        let device = open("jumpstarter_driver_energenie.driver.EnerGenie", config).await.unwrap();
        power(&device).on().await?;
        power(&device).off().await
    };
    switch(1, "1").await.unwrap();
    let bodies: Vec<_> = server.take().into_iter().map(|asked| asked.body).collect();
    assert_eq!(bodies, ["pw=1", "cte1=1", "pw=1", "cte1=0"]);
    // A page that does not say what is on, and then one that asks for the password.
    let error = switch(2, "1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
    assert!(error.report().contains("socket 2") && error.report().contains("off"), "{error:?}");
    let error = switch(3, "1").await.unwrap_err().report();
    assert!(error.contains("the strip says that it is still off"), "{error}");
    let error = switch(4, "1").await.unwrap_err().report();
    assert!(error.contains("503"), "{error}");
    let error = switch(1, "wrong").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");

    server.take();
    for (close, expected) in [(json!(null), 0), (json!("keep"), 0), (json!("off"), 2)] {
        let mut config = json!({ "host": server.address.to_string(), "slot": 1 });
        if !close.is_null() {
            config["close"] = close.clone();
        }
        open("energenie", config).await.unwrap().close().await.unwrap();
        assert_eq!(server.take().len(), expected, "{close}");
    }

    let check = async |config: Value, expected: &str| {
        let error = open("energenie", config).await.expect_err("it is refused").report();
        assert!(error.contains(expected), "{error}");
    };
    check(json!({}), "missing field `host`").await;
    check(json!({ "host": "strip", "slot": 5 }), "slot: is 5: the strip has the sockets 1 to 4")
        .await;
    check(json!({ "host": "http://strip" }), "host: is no host name or address").await;
}
