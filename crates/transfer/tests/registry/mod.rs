//! A real registry, Debian's docker-registry, and how images come into it.

use std::time::Duration;

use jumpstarter_driver_testkit::{eventually, reserve_port, skip};
use jumpstarter_supervise::{Child, Command};
use ring::digest::{SHA256, digest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// `user:secret`, for Basic.
pub(crate) const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";
/// The password `secret`, as htpasswd keeps it.
const HTPASSWD: &str = "user:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry; it ends with this value.
pub(crate) struct Registry {
    _folder: tempfile::TempDir,
    child: Child,
    pub(crate) address: String,
}

impl Registry {
    /// `None`, after a skip, where it is not installed.
    pub(crate) async fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let address = format!("127.0.0.1:{}", reserve_port());
        let (htpasswd, config) = (folder.path().join("htpasswd"), folder.path().join("config.yml"));
        std::fs::write(&htpasswd, HTPASSWD).unwrap();
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {:?}}}}}\nhttp: {{addr: \"{address}\"}}\nauth: {{htpasswd: {{realm: test, path: {htpasswd:?}}}}}\n",
            folder.path().join("store"),
        );
        std::fs::write(&config, text).unwrap();
        let child = Command::new("docker-registry").arg("serve").arg(&config).spawn().await;
        let child = match child {
            Ok(child) => child,
            Err(error) => {
                skip(&format!("docker-registry does not start: {error}"));
                return None;
            }
        };
        eventually("the registry listens", || std::net::TcpStream::connect(&address).is_ok()).await;
        Some(Self { _folder: folder, child, address })
    }

    pub(crate) async fn end(self, limit: Duration) {
        self.child.kill();
        tokio::time::timeout(limit, self.child.wait_gone()).await.unwrap();
    }
}

/// A digest as a manifest has it.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    let hex = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
    format!("sha256:{}", hex.collect::<String>())
}

/// A manifest with these layers: title and content.
pub(crate) fn manifest(layers: &[(&str, &[u8])]) -> String {
    let layers = layers.iter().map(|(title, bytes)| {
        serde_json::json!({
            "mediaType": "application/vnd.example.disk", "digest": sha256(bytes),
            "size": bytes.len(), "annotations": { "org.opencontainers.image.title": title },
        })
    });
    let empty = serde_json::json!({
        "mediaType": "application/vnd.oci.empty.v1+json", "digest": sha256(b"{}"), "size": 2
    });
    serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.example",
        "config": empty, "layers": layers.collect::<Vec<_>>(),
    })
    .to_string()
}

/// One request of the test: its status, its `Location`.
async fn ask(address: &str, head: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "{head}\r\nhost: {address}\r\nauthorization: {BASIC}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let location = answer.lines().find_map(|line| line.strip_prefix("Location: "));
    (status, location.unwrap_or_default().trim().to_owned())
}

pub(crate) async fn push_blob(address: &str, repository: &str, bytes: &[u8]) {
    let head = format!("POST /v2/{repository}/blobs/uploads/ HTTP/1.1");
    let (status, location) = ask(address, &head, b"").await;
    assert_eq!(status, 202);
    let target = location.split_once(address).unwrap().1;
    let head = format!("PUT {target}&digest={} HTTP/1.1", sha256(bytes));
    assert_eq!(ask(address, &head, bytes).await.0, 201);
}

pub(crate) async fn push_manifest(
    address: &str,
    repository: &str,
    tag: &str,
    kind: &str,
    text: &str,
) {
    let head = format!("PUT /v2/{repository}/manifests/{tag} HTTP/1.1\r\ncontent-type: {kind}");
    assert_eq!(ask(address, &head, text.as_bytes()).await.0, 201);
}
