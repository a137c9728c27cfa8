//! `jmp login` and `jmp auth` with a real OpenID provider, and a controller that takes its tokens.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/inside.rs"]
mod inside;
#[path = "support/lab.rs"]
mod lab;
#[path = "support/provider.rs"]
mod provider;
#[path = "support/terminal.rs"]
mod terminal;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use base64::Engine as _;
use jumpstarter_config::{ClientConfig, TokenClaims};
use jumpstarter_supervise::{Child, Command, Sink, run_unchecked};
use jumpstarter_test_controller::{Issuer, Options, TestController};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use lab::jmp;
use provider::{PASSWORD, Provider, browse};
use terminal::DEADLINE;

/// A controller that takes the tokens of a provider, its login service, and a user's folder.
struct Lab {
    controller: TestController,
    provider: Provider,
    /// `http://127.0.0.1:PORT`
    login: String,
    folder: tempfile::TempDir,
}

impl Lab {
    /// None, after a skip, without a provider.
    async fn start(seconds: u32) -> Option<Self> {
        let provider = Provider::start(seconds).await?;
        let controller = TestController::start(Options::default()).await.unwrap();
        controller.trust(Issuer {
            url: provider.issuer.clone(),
            keys: provider.keys.clone(),
            audience: Some("lab".to_owned()),
            claim: "sub".to_owned(),
            prefix: "oidc:".to_owned(),
        });
        controller.add_external_client("alice", "oidc:alice");
        let authorities = base64::prelude::BASE64_STANDARD.encode(controller.ca_bundle());
        let answer = json!({
            "grpcEndpoint": controller.endpoint(), "namespace": "lab", "caBundle": authorities,
            "oidc": [{"issuer": provider.issuer, "clientId": "jumpstarter-cli", "audiences": ["lab"]}],
        });
        let login = login_service(answer.to_string()).await;
        Some(Self { controller, provider, login, folder: tempfile::tempdir().unwrap() })
    }

    fn jmp(&self, words: &[&str]) -> Command {
        let words = [&["--log-level", "debug"], words].concat();
        jmp(&words).env("JMP_CLIENT_CONFIG_HOME", self.folder.path()).env_remove("BROWSER")
    }

    /// The exit code, standard output and standard error.
    async fn run(&self, words: &[&str]) -> (Option<i32>, String, String) {
        self.finish(self.jmp(words)).await
    }

    async fn finish(&self, command: Command) -> (Option<i32>, String, String) {
        let output = run_unchecked(command, DEADLINE).await.unwrap();
        (output.status.code(), output.stdout_text(), output.stderr)
    }

    /// What a command prints that succeeds.
    async fn succeeds(&self, words: &[&str]) -> String {
        let (code, out, err) = self.run(words).await;
        assert_eq!(code, Some(0), "{words:?}: {out}{err}");
        out + &err
    }

    fn path(&self, alias: &str) -> PathBuf {
        self.folder.path().join(format!("clients/{alias}.yaml"))
    }

    fn client(&self, alias: &str) -> ClientConfig {
        ClientConfig::load(self.path(alias)).unwrap()
    }

    /// Logs in with the password as alice.
    async fn login_by_password(&self, more: &[&str]) -> String {
        let target = format!("alice@{}", self.login);
        let words = ["login", &target, "--nointeractive", "--username", "alice"];
        let words = [&words, more].concat();
        let command = self.jmp(&words).env("JMP_OIDC_PASSWORD", PASSWORD);
        let (code, out, err) = self.finish(command).await;
        assert_eq!(code, Some(0), "{out}{err}");
        out + &err
    }
}

/// A login service that gives every request this answer.
async fn login_service(answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut request).await.is_ok_and(|count| count > 0) {
                    continue;
                }
                break;
            }
            assert!(request.starts_with(b"GET /v1/auth/config "), "{request:?}");
            let length = answer.len();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all((head + &answer).as_bytes()).await.unwrap();
        }
    });
    format!("http://{address}")
}

/// A login that shows a page.
struct Shown {
    child: Child,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
    said: String,
    url: String,
}

impl Shown {
    async fn start(command: Command) -> Self {
        let child = command.stdout(Sink::Piped).stderr(Sink::Tail(1 << 20)).spawn().await.unwrap();
        let mut lines = BufReader::new(child.take_stdout().unwrap()).lines();
        let line = tokio::time::timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap();
        let line = line.unwrap_or_else(|| panic!("no page: {}", child.stderr_tail()));
        let url = line.strip_prefix("Please open the URL in browser:").unwrap_or_else(|| {
            panic!("no page: {line} {}", child.stderr_tail());
        });
        let url = url.trim().to_owned();
        Self { child, lines, said: line + "\n", url }
    }

    /// Its exit code, and what it said.
    async fn finish(mut self) -> (Option<i32>, String) {
        let Ok(status) = tokio::time::timeout(DEADLINE, self.child.wait()).await else {
            panic!("it does not end: {}", self.child.stderr_tail());
        };
        let code = status.code();
        while let Some(line) = self.lines.next_line().await.unwrap() {
            self.said += &(line + "\n");
        }
        (code, self.said + &self.child.stderr_tail())
    }
}

/// Checks that no secret of a client is in what was printed.
#[track_caller]
fn check_no_secret(said: &str, configs: &[&ClientConfig]) {
    let secrets = configs.iter().flat_map(|config| [&config.token, &config.refresh_token]);
    let secrets = secrets.flatten().map(jumpstarter_driver_core::Secret::expose);
    for secret in secrets.chain([PASSWORD]) {
        assert!(!said.contains(secret), "{secret} in {said}");
        // Not even its signature.
        let end = secret.rsplit('.').next().unwrap_or_default();
        assert!(!said.contains(end), "{secret} in {said}");
    }
}

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

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_renews_its_token_beside_others() {
    let Some(lab) = Lab::start(8).await else { return };
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
    // Longer than a token is good.
    let shell = async |name: &str| {
        let script = "j power on && sleep 10 && j power off";
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
    // The leases were released with a token that was good.
    assert!(lab.controller.leases(true).is_empty(), "{:?}", lab.controller.leases(true));
    // Without a refresh token there is a warning, and the command goes on.
    lab.login_by_password(&["--no-offline-access"]).await;
    let out = lab.succeeds(&["shell", "-n", "e1", "--", "sleep", "6"]).await;
    assert!(out.contains("Token expires in ") && out.contains("auto-refresh failed"), "{out}");
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
