//! Tokens that expire.

use base64::Engine as _;
use jumpstarter_supervise::{Signal, Sink};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::bench::{Lab, check_no_secret};
use crate::lab::{clean, eventually, jmp, line, start};
use crate::provider::browse;
use crate::terminal::{DEADLINE, JMP, Terminal, code};

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_renews_its_token_beside_others() {
    let Some(lab) = Lab::start(12).await else { return };
    for name in ["e1", "e2"] {
        lab.controller.add_exporter(name, &[("board", name)]);
    }
    let mut exporters = Vec::new();
    for name in ["e1", "e2"] {
        let file = lab.folder.path().join(format!("{name}.yaml"));
        let text = lab.controller.exporter_file(name, "{power: {type: mock-power}}");
        std::fs::write(&file, text).unwrap();
        let command = jmp(&["run", file.to_str().unwrap()]).stdout(Sink::Piped);
        let exporter = command.stderr(Sink::Tail(1 << 16)).spawn().await.unwrap();
        let mut lines = BufReader::new(exporter.take_stdout().unwrap()).lines();
        let line = tokio::time::timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap();
        assert!(line.is_some(), "{}", exporter.stderr_tail());
        exporters.push((exporter, lines));
    }
    lab.login_by_password(&[]).await;
    let first = lab.client("alice");
    // A list that goes on renews its token, too.
    let words = ["get", "leases", "--all", "--watch", "-o", "name"];
    let (watch, mut leases) = start(lab.jmp(&words)).await;
    // Longer than a token is good.
    let shell = async |name: &str| {
        let script = "j power on && sleep 14 && j power off";
        let words = ["shell", "-n", name, "--", "sh", "-c", script];
        let (code, out, err) = lab.run(&words).await;
        assert_eq!(code, Some(0), "{name}: {out}{err}");
        out + &err
    };
    let (one, other) = tokio::join!(shell("e1"), shell("e2"));
    let last = lab.client("alice");
    assert_ne!(first.token, last.token);
    let said = one + &other;
    assert!(!said.contains("Token e") && !said.contains("auto-refresh"), "{said}");
    check_no_secret(&said, &[&first, &last]);
    assert!(!watch.stderr_tail().contains("error"), "{}", watch.stderr_tail());
    let mut listed = 0;
    lab.succeeds(&["create", "lease", "-n", "e1", "--duration", "1h", "--lease-id", "last"]).await;
    while line(&mut leases, &watch).await != "last" {
        listed += 1;
    }
    assert!(listed >= 2, "{listed}");
    watch.signal(Signal::INT);
    assert_eq!(code(&watch).await, Some(130), "{}", watch.stderr_tail());
    lab.succeeds(&["delete", "leases", "last"]).await;
    // The leases were released with a token that was good.
    let is_given_back = || lab.controller.leases(true).is_empty();
    eventually("no lease is left", async || is_given_back().then_some(())).await;
    // Without a refresh token there is a warning, and the command goes on.
    lab.login_by_password(&["--no-offline-access"]).await;
    // Longer than the time until the token was to be renewed. On a busy host it may be over before
    // the lease is released.
    let words = ["shell", "-n", "e1", "--", "sh", "-c", "sleep 9; echo it went on"];
    let (_, out, err) = lab.run(&words).await;
    let out = out + &err;
    assert!(out.starts_with("it went on"), "{out}");
    assert!(out.contains("Token expires in ") && out.contains("auto-refresh failed"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_replaced_on_a_terminal_by_another_login() {
    let Some(lab) = Lab::start(3600).await else { return };
    lab.login_by_password(&["--no-offline-access"]).await;
    let mut config = lab.client("alice");
    let claims = json!({"iss": lab.provider.issuer, "sub": "alice", "exp": 1_000_000_000});
    let claims = base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
    config.token = Some(format!("e30.{claims}.x").as_str().into());
    config.save().unwrap();
    let expire = || config.save().unwrap();
    // Without a terminal nobody could log in.
    let (failed, _, err) = lab.run(&["get", "leases"]).await;
    assert_eq!(failed, Some(1), "{err}");
    assert!(err.contains("the token of the client alice is expired"), "{err}");
    assert!(err.contains("Run `jmp login`"), "{err}");
    for (words, way, done) in [
        (&["get", "leases"][..], "0", "No resources found."),
        (&["get", "exporters", "--watch"], "1", "NAME"),
    ] {
        expire();
        let mut terminal = Terminal::new();
        let command = clean(terminal.command(&[&[JMP], words].concat()))
            .env("JMP_CLIENT_CONFIG_HOME", lab.folder.path())
            .env("JMP_OIDC_DEVICE_FLOW", way)
            .env_remove("BROWSER");
        let command = command.spawn().await.unwrap();
        terminal.shows("Token is expired, triggering re-authentication").await;
        terminal.shows("waiting for the login").await;
        let shown = terminal.text();
        let url = shown.split("Please open the URL in browser:").nth(1).unwrap();
        // The same kind of login as before.
        assert!(!url.contains("offline_access"), "{url}");
        browse(url.lines().next().unwrap().trim(), "agree").await;
        terminal.shows(done).await;
        let expected = match way {
            // It ends by itself.
            "0" => 0,
            _ => {
                terminal.press("\u{3}");
                130
            }
        };
        assert_eq!(code(&command).await, Some(expected), "{}", terminal.text());
        let now = lab.client("alice");
        assert_ne!(now.token, config.token);
        check_no_secret(&terminal.text(), &[&now]);
    }
}
