//! A real OpenID provider, of npm, and a person with a browser.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use jumpstarter_driver_testkit::skip;
use jumpstarter_supervise::{Child, Command, Input, Sink, run_unchecked};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::terminal::DEADLINE;

/// Downloads take their time.
const INSTALL_LIMIT: Duration = Duration::from_secs(180);

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
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = cache.join("oidc-provider-8.8.1");
    // Tests run at the same time: the first one installs.
    let lock = std::fs::File::create(cache.join("oidc-provider.lock")).unwrap();
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await.unwrap();
    let _lock = lock.unwrap();
    if folder.exists() {
        return Some(folder);
    }
    let incoming = tempfile::tempdir_in(cache).unwrap();
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(source().join(file), incoming.path().join(file)).unwrap();
    }
    let install = Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
        .arg(incoming.path());
    let why = match run_unchecked(install, INSTALL_LIMIT).await {
        Ok(output) if output.status.success() => {
            std::fs::rename(incoming.path(), &folder).unwrap();
            return Some(folder);
        }
        Ok(output) => output.stderr.lines().last().unwrap_or_default().to_owned(),
        Err(error) => error.to_string(),
    };
    skip(&format!("npm cannot install an OpenID provider: {why}"));
    None
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
