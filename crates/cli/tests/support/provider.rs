//! A real OpenID provider, of npm, and a person with a browser.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};

use jumpstarter_supervise::{Child, Command, Input, Sink, run_unchecked};
use jumpstarter_test_support::npm;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::terminal::DEADLINE;

/// A running provider. It knows every user, all with one password.
pub struct Provider {
    pub issuer: String,
    pub keys: Value,
    _child: Child,
    _input: tokio::process::ChildStdin,
    /// It writes warnings there, and would end without a reader.
    _lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
}

/// The password of every user.
pub const PASSWORD: &str = "correct horse";

/// The folder with the provider's script.
fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/oidc")
}

/// The folder with its packages; none, after a skip, where they cannot be installed.
async fn packages() -> Option<PathBuf> {
    npm::locked(Path::new(env!("CARGO_TARGET_TMPDIR")), "oidc-provider-8.8.1", &source()).await
}

impl Provider {
    /// A provider whose tokens are good for so many seconds; none, after a skip, without npm.
    pub async fn start(seconds: u32) -> Option<Self> {
        let packages = packages().await?;
        let command = Command::new("node")
            .arg(source().join("provider.mjs"))
            .arg(packages)
            .arg(seconds.to_string())
            .stdin(Input::Piped)
            .stdout(Sink::Piped)
            .stderr(Sink::Tail(1 << 16));
        let child = command.spawn().await.unwrap();
        let input = child.take_stdin().unwrap();
        let mut lines = BufReader::new(child.take_stdout().unwrap()).lines();
        let line = tokio::time::timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap();
        let line = line.unwrap_or_else(|| panic!("no provider: {}", child.stderr_tail()));
        let ready: Value = serde_json::from_str(&line).unwrap();
        let issuer = ready["issuer"].as_str().unwrap().to_owned();
        let keys = ready["keys"].clone();
        Some(Self { issuer, keys, _child: child, _input: input, _lines: lines })
    }
}

/// The last page that a person sees who opens `url`, logs in as alice and agrees, or declines.
pub async fn browse(url: &str, wish: &str) -> String {
    let browser = Command::new("node").arg(source().join("browser.mjs")).args([url, wish]);
    let output = run_unchecked(browser, DEADLINE).await.unwrap();
    assert!(output.status.success(), "{}", output.stderr);
    output.stdout_text()
}
