//! The ways to a token.

use std::os::unix::fs::PermissionsExt;

use base64::Engine as _;
use jumpstarter_config::TokenClaims;

use crate::bench::{Lab, Shown, check_no_secret};
use crate::provider::{PASSWORD, browse};

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_logs_in_and_the_controller_takes_the_token() {
    let Some(lab) = Lab::start(3600).await else { return };
    let target = format!("alice@{}", lab.login);
    let shown = Shown::start(lab.jmp(&["login", &target, "--nointeractive"])).await;
    for part in ["code_challenge_method=S256", "nonce=", "state=", "offline_access"] {
        assert!(shown.url.contains(part), "{}", shown.url);
    }
    let page = browse(&shown.url, "agree").await;
    assert!(page.contains("The login is complete"), "{page}");
    let (code, mut said) = shown.finish().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Set 'alice' as the default client."), "{said}");
    let mode = std::fs::metadata(lab.path("alice")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let first = lab.client("alice");
    assert_eq!(first.endpoint.as_deref(), Some(lab.controller.endpoint()));
    assert_eq!((first.metadata.name.as_str(), first.tls.insecure), ("alice", false));
    said += &lab.succeeds(&["get", "exporters"]).await;
    said += &lab.succeeds(&["auth", "status", "--verbose"]).await;
    assert!(said.contains("Status: Valid") && said.contains("Subject: alice"), "{said}");
    // Again: by the refresh token, and with the settings that the file has.
    let text = std::fs::read_to_string(lab.path("alice")).unwrap();
    std::fs::write(lab.path("alice"), text + "leases: {retry_timeout: 7}\n").unwrap();
    said += &lab.succeeds(&["login", "--nointeractive"]).await;
    let second = lab.client("alice");
    assert_ne!((&first.token, &first.refresh_token), (&second.token, &second.refresh_token));
    assert_eq!(second.leases.retry_timeout.as_secs(), 7);
    // At the same time: each refresh token is good for one use only.
    let words = ["auth", "refresh"];
    let (one, other) = tokio::join!(lab.succeeds(&words), lab.succeeds(&words));
    assert!(one.contains("Access token refreshed.") && other.contains("Access token refreshed."));
    said += &lab.succeeds(&words).await;
    let third = lab.client("alice");
    let rotated = lab.succeeds(&["auth", "rotate"]).await;
    assert!(rotated.contains("Token rotated. New expiry: "), "{rotated}");
    said += &lab.succeeds(&["get", "leases"]).await;
    said += &lab.succeeds(&["config", "client", "list", "-o", "json"]).await;
    let last = lab.client("alice");
    assert_ne!(last.token, third.token);
    let issuer = TokenClaims::read(last.token.as_ref().unwrap()).unwrap().issuer.unwrap();
    assert_eq!(issuer, jumpstarter_test_controller::INTERNAL_ISSUER);
    let (code, _, err) = lab.run(&["auth", "refresh"]).await;
    assert!(code == Some(1) && err.contains("no OpenID provider issued the token"), "{err}");
    check_no_secret(&(said + &one + &other + &rotated), &[&first, &second, &third, &last]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_logs_in_without_a_browser_here() {
    let Some(lab) = Lab::start(3600).await else { return };
    let target = format!("alice@{}", lab.login);
    let words = ["login", &target, "--nointeractive", "--device-flow"];
    let shown = Shown::start(lab.jmp(&words)).await;
    let page = browse(&shown.url, "agree").await;
    assert!(page.contains("Sign-in Success"), "{page}");
    let (code, said) = shown.finish().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Code: "), "{said}");
    lab.succeeds(&["get", "exporters"]).await;
    check_no_secret(&said, &[&lab.client("alice")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_declines_is_not_logged_in() {
    let Some(lab) = Lab::start(3600).await else { return };
    let target = format!("alice@{}", lab.login);
    let shown = Shown::start(lab.jmp(&["login", &target, "--nointeractive"])).await;
    let page = browse(&shown.url, "decline").await;
    assert!(page.contains("The login failed"), "{page}");
    let (code, said) = shown.finish().await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("access_denied") && said.contains(&lab.provider.issuer), "{said}");
    assert!(!lab.path("alice").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_and_other_tokens_log_in_and_are_not_repeated() {
    let Some(lab) = Lab::start(3600).await else { return };
    let mut said = lab.login_by_password(&["--unsafe", "--no-offline-access"]).await;
    let by_password = lab.client("alice");
    assert!(by_password.refresh_token.is_none() && by_password.drivers.allow_all);
    said += &lab.succeeds(&["get", "exporters"]).await;
    // The provider repeats the password; we do not.
    let secret = lab.folder.path().join("secret");
    std::fs::write(&secret, "battery staple\n").unwrap();
    let file = secret.to_str().unwrap();
    let words = ["login", "--nointeractive", "--username", "alice", "--password-file", file];
    let (code, out, err) = lab.run(&words).await;
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(err.contains("has not the password ***"), "{err}");
    assert!(!(out + &err).contains("battery"), "{err}");
    assert_eq!(lab.client("alice"), by_password, "the old token stays");
    // A token of another issuer, and everything by options.
    let part = |text: &str| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(text);
    let foreign = format!("{}.{}.x", part("{\"alg\":\"none\"}"), part("{\"sub\":\"alice\"}"));
    std::fs::write(&secret, &foreign).unwrap();
    let issuer = lab.provider.issuer.clone();
    let words = [
        "login",
        "--client",
        "ci",
        "--endpoint",
        lab.controller.endpoint(),
        "--namespace",
        "lab",
        "--name",
        "alice",
        "--issuer",
        &issuer,
        "--connector-id",
        "ci",
        "--token-file",
        file,
        "--insecure-tls",
        "--nointeractive",
    ];
    said += &lab.succeeds(&words).await;
    let by_exchange = lab.client("ci");
    assert!(by_exchange.refresh_token.is_some() && by_exchange.tls.insecure);
    said += &lab.succeeds(&["get", "exporters", "--client", "ci"]).await;
    assert!(!said.contains(&foreign), "{said}");
    check_no_secret(&said, &[&by_password, &by_exchange]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exporter_logs_in_and_its_file_stays_as_it_is() {
    let Some(lab) = Lab::start(3600).await else { return };
    let file = lab.folder.path().join("board.yaml");
    let login = ["login", &lab.login, "--nointeractive", "--username", "board"];
    let path = ["--exporter-config", file.to_str().unwrap()];
    let by_variable = |words: Vec<&str>| lab.jmp(&words).env("JMP_OIDC_PASSWORD", PASSWORD);
    let new = by_variable([&login[..], &path, &["--name", "board"]].concat());
    let (code, out, err) = lab.finish(new).await;
    assert_eq!(code, Some(0), "{out}{err}");
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(written.contains("endpoint: ") && written.contains("export: {}"), "{written}");
    let commented = format!("# the board of the desk\n{written}");
    std::fs::write(&file, &commented).unwrap();
    let (code, out, err) = lab.finish(by_variable([&login[..], &path].concat())).await;
    assert_eq!(code, Some(0), "{out}{err}");
    let again = std::fs::read_to_string(&file).unwrap();
    let without = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with("token: "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(without(&again), without(&commented));
    assert_ne!(again, commented);
    // An alias is a file of this user.
    let alias = by_variable([&login[..], &["--exporter", "bench", "--name", "board"]].concat());
    let (code, out, err) = lab.finish(alias).await;
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(lab.folder.path().join("exporters/bench.yaml").exists(), "{out}");
}
