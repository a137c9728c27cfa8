//! The lab of these tests, its login service, and logins that show a page.

use std::path::PathBuf;

use base64::Engine as _;
use jumpstarter_config::ClientConfig;
use jumpstarter_supervise::{Child, Command, Sink, run_unchecked};
use jumpstarter_test_controller::{Issuer, Options, TestController};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::lab::jmp;
use crate::provider::{PASSWORD, Provider};
use crate::terminal::DEADLINE;

/// A controller that takes the tokens of a provider, its login service, and a user's folder.
pub(crate) struct Lab {
    pub(crate) controller: TestController,
    pub(crate) provider: Provider,
    /// `http://127.0.0.1:PORT`
    pub(crate) login: String,
    pub(crate) folder: tempfile::TempDir,
}

impl Lab {
    /// None, after a skip, without a provider.
    pub(crate) async fn start(seconds: u32) -> Option<Self> {
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

    pub(crate) fn jmp(&self, words: &[&str]) -> Command {
        let words = [&["--log-level", "debug"], words].concat();
        jmp(&words).env("JMP_CLIENT_CONFIG_HOME", self.folder.path()).env_remove("BROWSER")
    }

    /// The exit code, standard output and standard error.
    pub(crate) async fn run(&self, words: &[&str]) -> (Option<i32>, String, String) {
        self.finish(self.jmp(words)).await
    }

    pub(crate) async fn finish(&self, command: Command) -> (Option<i32>, String, String) {
        let output = run_unchecked(command, DEADLINE).await.unwrap();
        (output.status.code(), output.stdout_text(), output.stderr)
    }

    /// What a command prints that succeeds.
    pub(crate) async fn succeeds(&self, words: &[&str]) -> String {
        let (code, out, err) = self.run(words).await;
        assert_eq!(code, Some(0), "{words:?}: {out}{err}");
        out + &err
    }

    pub(crate) fn path(&self, alias: &str) -> PathBuf {
        self.folder.path().join(format!("clients/{alias}.yaml"))
    }

    pub(crate) fn client(&self, alias: &str) -> ClientConfig {
        ClientConfig::load(self.path(alias)).unwrap()
    }

    /// Logs in with the password as alice.
    pub(crate) async fn login_by_password(&self, more: &[&str]) -> String {
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
pub(crate) async fn login_service(answer: String) -> String {
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
pub(crate) struct Shown {
    pub(crate) child: Child,
    pub(crate) lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
    pub(crate) said: String,
    pub(crate) url: String,
}

impl Shown {
    pub(crate) async fn start(command: Command) -> Self {
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
    pub(crate) async fn finish(mut self) -> (Option<i32>, String) {
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
pub(crate) fn check_no_secret(said: &str, configs: &[&ClientConfig]) {
    let secrets = configs.iter().flat_map(|config| [&config.token, &config.refresh_token]);
    let secrets = secrets.flatten().map(jumpstarter_driver_core::Secret::expose);
    for secret in secrets.chain([PASSWORD]) {
        assert!(!said.contains(secret), "{secret} in {said}");
        // Not even its signature.
        let end = secret.rsplit('.').next().unwrap_or_default();
        assert!(!said.contains(end), "{secret} in {said}");
    }
}
