//! What is refused, and what is asked first.

use jumpstarter_supervise::{Command, run_unchecked};
use serde_json::json;

use crate::bench::login_service;
use crate::lab::jmp;
use crate::terminal::{DEADLINE, JMP, Terminal, code};

#[tokio::test(flavor = "multi_thread")]
async fn a_login_without_checks_of_certificates_is_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    let in_folder = |command: Command| command.env("JMP_CLIENT_CONFIG_HOME", folder.path());
    let login = ["login", "me@http://127.0.0.1:1", "--insecure-tls"];
    let output = run_unchecked(in_folder(jmp(&login)), DEADLINE).await.unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", output.stderr);
    assert!(output.stderr.contains("add --nointeractive"), "{}", output.stderr);
    let question = "Insecure TLS mode is enabled. Certificate verification will be disabled for \
                    HTTPS connections. Continue? [y/N]: ";
    for (keys, expected) in [
        ("\n", "nothing was changed"),
        ("what\nNo\n", "nothing was changed"),
        ("\u{4}", "was not answered"),
        ("y\n", "Fetching configuration from http://127.0.0.1:1..."),
        ("Yes\n", "asking the login service http://127.0.0.1:1"),
    ] {
        let mut terminal = Terminal::new();
        let command = in_folder(terminal.command(&[&[JMP], &login[..]].concat()));
        let command = command.spawn().await.unwrap();
        terminal.shows(question).await;
        terminal.press(keys);
        terminal.shows(expected).await;
        assert_eq!(code(&command).await, Some(1), "{}", terminal.text());
    }
    // The option asks nothing.
    let words = [&login[..], &["--nointeractive"]].concat();
    let output = run_unchecked(in_folder(jmp(&words)), DEADLINE).await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", output.stderr);
    assert!(output.stderr.contains("warning: no certificate is checked"), "{}", output.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_says_what_was_asked_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let run = async |words: &[&str]| {
        let command = jmp(&[&["login"], words, &["--nointeractive"]].concat());
        let command = command.env("JMP_CLIENT_CONFIG_HOME", folder.path());
        let output = run_unchecked(command, DEADLINE).await.unwrap();
        (output.status.code(), output.stderr)
    };
    let without_issuer =
        login_service(json!({"grpcEndpoint": "a.example:1", "namespace": "lab"}).to_string()).await;
    let no_controller = login_service("{\"oidc\": []}".to_owned()).await;
    let no_json = login_service("<html>".to_owned()).await;
    let options = ["--namespace", "lab", "--name", "me", "--endpoint", "a.example:1"];
    let with = |words: &[&'static str]| [&options[..], words].concat();
    for (words, expected_code, parts) in [
        (vec![], 2, vec!["missing: --namespace, --name, --endpoint", "jmp login me@"]),
        (with(&[]), 2, vec!["missing: --issuer"]),
        (vec!["me@http://a.example"], 1, vec!["has no TLS", "--insecure-tls"]),
        (with(&["--issuer", "http://a.example/x"]), 1, vec!["the issuer `http://a.example/x`"]),
        (with(&["--issuer", "a.example"]), 1, vec!["the issuer `a.example`", "https://"]),
        (with(&["--issuer", "http://127.0.0.1:1"]), 1, vec!["OpenID provider http://127.0.0.1:1"]),
        (vec!["@a.example"], 2, vec!["NAME@HOST"]),
        (vec!["me@", "-k"], 2, vec!["NAME@HOST"]),
        (vec!["me@", &without_issuer], 1, vec!["names no OpenID provider", "ask who runs the lab"]),
        (vec!["me@", &no_controller], 1, vec!["asking the login service", "a field is missing"]),
        (vec!["me@", &no_json], 1, vec!["it is not JSON", "check the address"]),
        (with(&["--issuer", "x", "--password", "hush"]), 2, vec!["--username"]),
    ] {
        let joined = words.concat();
        let is_host = words.len() == 2 && words[1].starts_with("http");
        let words = if is_host { vec![joined.as_str()] } else { words };
        let (code, err) = run(&words).await;
        assert_eq!(code, Some(expected_code), "{words:?}: {err}");
        for part in parts {
            assert!(err.contains(part), "{words:?}: {part}: {err}");
        }
        assert!(!err.contains("hush"), "{err}");
    }
    assert!(!folder.path().join("clients").exists());
    let output = run_unchecked(jmp(&["admin", "get", "client"]), DEADLINE).await.unwrap();
    assert!(output.stderr.contains("kubectl"), "{}", output.stderr);
}
