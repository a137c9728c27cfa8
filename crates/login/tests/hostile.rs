//! Servers that are not what they should be.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/stub.rs"]
mod stub;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jumpstarter_driver_core::{ErrorKind, Secret};
use jumpstarter_login::{Provider, ProviderOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use stub::{ok, provider, serve};

async fn discover(issuer: &str) -> jumpstarter_driver_core::Result<Provider> {
    Provider::discover(&ProviderOptions::new(issuer)).await
}

#[track_caller]
fn check(error: &jumpstarter_driver_core::Error, kind: ErrorKind, parts: &[&str]) {
    let report = error.report();
    assert_eq!(error.kind(), kind, "{report}");
    for part in parts {
        assert!(report.contains(part), "{part}: {report}");
    }
    assert!(!report.contains("hush") && !report.contains('\u{1b}'), "{report}");
    assert!(error.hint().is_some(), "{report}");
}

#[tokio::test]
async fn a_document_is_not_believed() {
    use ErrorKind::{InvalidArgument, PermissionDenied};
    let none = |_: &str, _: &str, _: &str| ("404 Not Found".to_owned(), String::new());
    for (field, value, kind, part) in [
        (
            "issuer",
            "https://evil.example\u{1b}[2J",
            PermissionDenied,
            "another issuer, `https://evil",
        ),
        ("token_endpoint", "http://evil.example/token", PermissionDenied, "the token endpoint"),
        ("token_endpoint", "file:///etc/passwd", InvalidArgument, "the token endpoint"),
        ("authorization_endpoint", "https://a@evil.example/", InvalidArgument, "a user name"),
        (
            "device_authorization_endpoint",
            "x",
            InvalidArgument,
            "the device authorization endpoint",
        ),
    ] {
        let change = move |document: &mut Value, _: &str| document[field] = value.into();
        let issuer = provider(change, none).await;
        let error = discover(&issuer).await.unwrap_err();
        check(&error, kind, &["asking the OpenID provider", &issuer, part]);
    }
    let text = |text: &'static str| move |_: &str, _: &str| ("200 OK".to_owned(), text.to_owned());
    for (body, part) in [("<html>", "not JSON"), ("{\"issuer\": 1}", "of another type")] {
        let issuer = serve(text(body)).await;
        check(&discover(&issuer).await.unwrap_err(), InvalidArgument, &[part]);
    }
    let issuer = serve(|_, _| ("200 OK".to_owned(), " ".repeat(2 << 20))).await;
    check(&discover(&issuer).await.unwrap_err(), ErrorKind::ResourceExhausted, &["1024 KiB"]);
}

#[tokio::test]
async fn a_token_endpoint_leads_nowhere_else() {
    let there = serve(|_, body| panic!("it was asked: {body}")).await;
    let moved = move |_: &str, _: &str, _: &str| {
        (format!("307 Temporary Redirect\r\nlocation: {there}/token"), String::new())
    };
    let found = discover(&provider(|_, _| {}, moved).await).await.unwrap();
    let error = found.by_password("me", &Secret::new("hush")).await.unwrap_err();
    check(&error, ErrorKind::FailedPrecondition, &["logging in with a password", "307"]);
}

#[tokio::test]
async fn an_answer_is_a_token_or_an_error_without_it() {
    use ErrorKind::{InvalidArgument, Unimplemented};
    for (answer, kind, part) in [
        (json!({"token_type": "Bearer"}), InvalidArgument, "a field is missing"),
        (json!({"access_token": "hush\u{1b}"}), InvalidArgument, "has blanks in it"),
        (json!({"access_token": ""}), InvalidArgument, "is empty"),
        (json!({"access_token": "hush", "token_type": "mac\u{1b}"}), Unimplemented, "of the type"),
        (json!({"access_token": "hush", "refresh_token": "a b"}), InvalidArgument, "blanks"),
    ] {
        let found = discover(&provider(|_, _| {}, move |_, _, _| ok(&answer)).await).await.unwrap();
        let outcome = found.by_refresh_token(&Secret::new("hush")).await;
        let mut error = outcome.unwrap_err();
        if error.hint().is_none() {
            error = error.with_hint("none is needed");
        }
        check(&error, kind, &["renewing the token at http://127.0.0.1:", part]);
    }
    let refused = |_: &str, _: &str, body: &str| {
        let said = json!({"error": "invalid_grant", "error_description": format!("{body}\u{1b}")});
        ("400 Bad Request".to_owned(), said.to_string())
    };
    let found = discover(&provider(|_, _| {}, refused).await).await.unwrap();
    let error = found.by_refresh_token(&Secret::new("hush")).await.unwrap_err();
    check(&error, ErrorKind::Unauthenticated, &["invalid_grant", "refresh_token=***", "jmp login"]);
}

#[tokio::test]
async fn an_id_token_is_of_this_login() {
    for (field, value, part) in [
        ("nonce", json!("another"), "of another login"),
        ("aud", json!(["another"]), "for another program"),
        ("iss", json!("https://evil.example"), "of another issuer"),
        ("exp", json!(1), "has expired"),
        ("", Value::Null, ""),
    ] {
        let answer = move |_: &str, path: &str, body: &str| {
            assert_eq!(path, "/token");
            assert!(body.contains("code_verifier=") && body.contains("code=c1"), "{body}");
            // The test has put the nonce and the issuer into the code.
            let field_of = |name: &str| {
                let fields = body.split('&').find_map(|pair| pair.strip_prefix(name));
                fields.unwrap().strip_prefix("=c1.").unwrap().to_owned()
            };
            let rest = field_of("code");
            let (nonce, port) = rest.split_once('.').unwrap();
            let mut claims = json!({
                "iss": format!("http://127.0.0.1:{port}"), "aud": "jumpstarter-cli", "nonce": nonce,
                "exp": 4_000_000_000_u64,
            });
            if !field.is_empty() {
                claims[field] = value.clone();
            }
            let token = format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims.to_string()));
            ok(&json!({"access_token": "hush", "id_token": token}))
        };
        let issuer = provider(|_, _| {}, answer).await;
        let found = discover(&issuer).await.unwrap();
        let login = found.browser_login(0).await.unwrap();
        let query = login.url().split('?').nth(1).unwrap().to_owned();
        let of_query = |name: &str| {
            let pair = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
            pair.unwrap().to_owned()
        };
        assert_eq!(of_query("code_challenge_method"), "S256");
        let redirect = of_query("redirect_uri");
        let port = redirect.rsplit("%3A").next().unwrap().split("%2F").next().unwrap().to_owned();
        let code = format!("c1.{}.{}", of_query("nonce"), issuer.rsplit(':').next().unwrap());
        let state = of_query("state");
        let visit = async {
            let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
            let head = format!("GET /callback?code={code}&state={state} HTTP/1.1\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut page = String::new();
            stream.read_to_string(&mut page).await.unwrap();
        };
        let ((), outcome) = tokio::join!(visit, login.finish());
        match part {
            "" => assert_eq!(outcome.unwrap().access.expose(), "hush"),
            part => {
                let error = outcome.unwrap_err();
                check(&error, ErrorKind::PermissionDenied, &["getting the token", part]);
            }
        }
    }
}

#[tokio::test]
async fn a_code_for_a_device_is_waited_for() {
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = asked.clone();
    let answer = move |_: &str, path: &str, body: &str| match path {
        "/device" => ok(&json!({
            "device_code": "hush", "user_code": "AB-CD", "verification_uri": "http://127.0.0.1/device",
            "interval": 0, "expires_in": 100_000,
        })),
        _ => {
            assert!(body.contains("device_code=hush"), "{body}");
            match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                0 => (
                    "400 Bad Request".to_owned(),
                    json!({"error": "authorization_pending"}).to_string(),
                ),
                _ => ("400 Bad Request".to_owned(), json!({"error": "access_denied"}).to_string()),
            }
        }
    };
    let found = discover(&provider(|_, _| {}, answer).await).await.unwrap();
    let mut shown = None;
    let outcome = found.by_device_code(|code| shown = Some(code.clone())).await;
    check(
        &outcome.unwrap_err(),
        ErrorKind::PermissionDenied,
        &["waiting for the login", "access_denied"],
    );
    let shown = shown.unwrap();
    assert_eq!((shown.text.as_str(), shown.life.as_secs()), ("AB-CD", 3600));
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 2);
    let evil = |_: &str, _: &str, _: &str| {
        ok(
            &json!({"device_code": "hush", "user_code": "A", "verification_uri": "javascript:alert(1)"}),
        )
    };
    let found = discover(&provider(|_, _| {}, evil).await).await.unwrap();
    let error = found.by_device_code(|_| panic!("it was shown")).await.unwrap_err();
    assert!(error.report().contains("the page for the code"), "{}", error.report());
}
