//! Programs that renew the token of one client.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/stub.rs"]
mod stub;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jumpstarter_config::ClientConfig;
use jumpstarter_driver_core::{ErrorKind, Secret};
use jumpstarter_login::{Renewed, renew};
use serde_json::json;

use stub::{ok, provider};

/// A token of that issuer, good for so many seconds.
fn token(issuer: &str, seconds: u64, id: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"iss": issuer, "exp": now + seconds, "jti": id});
    format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// Writes a client's file.
fn write(path: &Path, access: &str, refresh: &str) -> ClientConfig {
    let text = format!(
        "metadata: {{namespace: lab, name: me}}\nendpoint: a.example:1\ntoken: {access}\nrefresh_token: {refresh}\n"
    );
    std::fs::write(path, text).unwrap();
    ClientConfig::load(path).unwrap()
}

fn file() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("me.yaml");
    (folder, path)
}

/// The stored access and refresh token.
fn stored(path: &Path) -> (String, String) {
    let config = ClientConfig::load(path).unwrap();
    let text = |secret: Option<Secret>| secret.unwrap().expose().to_owned();
    (text(config.token), text(config.refresh_token))
}

#[tokio::test]
async fn programs_take_turns_and_renew_once() {
    let (_folder, path) = file();
    let used = std::sync::Mutex::new(0);
    let answer = move |issuer: &str, _: &str, body: &str| {
        let mut used = used.lock().unwrap();
        *used += 1;
        assert!(*used == 1 && body.contains("refresh_token=r1"), "{used}: {body}");
        ok(&json!({"access_token": token(issuer, 3600, "new"), "refresh_token": "r2"}))
    };
    let issuer = provider(|_, _| {}, answer).await;
    let first = write(&path, &token(&issuer, 1, "old"), "r1");
    let (mut one, mut other) = (first.clone(), first);
    let at_least = Duration::from_secs(60);
    let (a, b) = tokio::join!(renew(&mut one, at_least), renew(&mut other, at_least));
    let mut ways = [a.unwrap(), b.unwrap()];
    ways.sort_by_key(|way| *way == Renewed::FromFile);
    assert_eq!(ways, [Renewed::FromProvider, Renewed::FromFile]);
    assert_eq!(one.token, other.token);
    assert_eq!(stored(&path), (one.token.unwrap().expose().to_owned(), "r2".to_owned()));
    assert_eq!(ClientConfig::load(&path).unwrap().endpoint.as_deref(), Some("a.example:1"));
}

#[tokio::test]
async fn a_program_without_turns_is_noticed() {
    let (_folder, path) = file();
    let there = path.clone();
    let answer = move |issuer: &str, _: &str, _: &str| {
        // It was quicker: the refresh token is used.
        write(&there, &token(issuer, 3600, "theirs"), "r2");
        ("400 Bad Request".to_owned(), json!({"error": "invalid_grant"}).to_string())
    };
    let issuer = provider(|_, _| {}, answer).await;
    let mut config = write(&path, &token(&issuer, 1, "old"), "r1");
    let how = renew(&mut config, Duration::from_secs(60)).await.unwrap();
    assert_eq!(how, Renewed::FromFile);
    assert_eq!(config.refresh_token.unwrap().expose(), "r2");
    assert_eq!(config.token.unwrap().expose(), stored(&path).0);
}

#[tokio::test]
async fn a_refusal_leaves_the_file_as_it_is() {
    let (_folder, path) = file();
    let refused = |_: &str, _: &str, _: &str| {
        ("400 Bad Request".to_owned(), json!({"error": "invalid_grant"}).to_string())
    };
    let issuer = provider(|_, _| {}, refused).await;
    let mut config = write(&path, &token(&issuer, 1, "old"), "r1");
    let before = stored(&path);
    let error = renew(&mut config, Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{}", error.report());
    assert!(error.hint().is_some_and(|hint| hint.contains("jmp login")), "{}", error.report());
    assert_eq!(stored(&path), before);
    // Without a refresh token, without an issuer, with a token of the controller's own.
    for (access, refresh) in [
        (token(&issuer, 1, "old"), None),
        ("opaque".to_owned(), Some("r1")),
        (token(jumpstarter_login::CONTROLLER_ISSUER, 1, "old"), Some("r1")),
    ] {
        let mut config = ClientConfig::new("me", "lab", "me");
        config.token = Some(Secret::new(access));
        config.refresh_token = refresh.map(Secret::new);
        let error = renew(&mut config, Duration::ZERO).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{}", error.report());
    }
}
