//! curl fetches what a client put into the storage.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

use std::os::unix::fs::symlink;
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::serde_json::{Value, json};
use jumpstarter_driver_core::storage::write_file;
use jumpstarter_driver_core::{Registry, Storage};
use jumpstarter_driver_http as _;
use jumpstarter_driver_testkit::skip;
use jumpstarter_supervise::Command;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const NAME: &str = "jumpstarter_driver_http.driver.HttpServer";

async fn open(config: Value) -> Device {
    let entry = Registry::linked().find(NAME).unwrap();
    let driver = (entry.open)(config, OpenContext::at("http")).await.unwrap();
    Device::of_shared_driver(driver)
}

async fn url(device: &Device) -> String {
    device.call("", "get_url", vec![]).await.unwrap().as_str().unwrap().to_owned()
}

/// Runs curl, and returns its output; `None` where there is no curl.
async fn curl(arguments: &[&str]) -> Option<String> {
    let command = Command::new("curl").args(["-sS", "--path-as-is", "--noproxy", "*"]);
    match jumpstarter_supervise::run(command.args(arguments), Duration::from_secs(30)).await {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) => {
            assert!(error.to_string().contains("curl"), "{error}");
            skip("curl is not installed: apt-get install curl");
            None
        }
    }
}

async fn status(url: &str, arguments: &[&str]) -> Option<String> {
    curl(&[&["-o", "/dev/null", "-w", "%{http_code}"], arguments, &[url]].concat()).await
}

#[tokio::test]
async fn curl_fetches_files() {
    let root = tempfile::tempdir().unwrap();
    let device = open(json!({ "root_dir": root.path(), "host": "127.0.0.1", "port": 0 })).await;
    assert_eq!(url(&device).await, "http://127.0.0.1:0");
    device.call("", "start", vec![]).await.unwrap();
    let url = url(&device).await;
    let storage = device.get::<dyn Storage>("storage").unwrap();
    let content: String = (0..100_000).map(|number| format!("{number}\n")).collect();
    let source = ImageSource::bytes(content.clone());
    write_file(&*storage, "images/a b.txt", source).await.unwrap();

    let file = format!("{url}/images/a%20b.txt");
    let Some(whole) = curl(&[&file]).await else { return };
    assert_eq!(whole, content);
    assert_eq!(curl(&["-r", "10-19", &file]).await.unwrap(), content[10..20]);
    assert_eq!(curl(&["-r", "-5", &file]).await.unwrap(), content[content.len() - 5..]);
    let head = curl(&["-I", &file]).await.unwrap().to_lowercase();
    for expected in ["200 ok", "accept-ranges: bytes", "etag: \"", "last-modified: "] {
        assert!(head.contains(expected), "{expected} of {head}");
    }
    assert!(head.contains(&format!("content-length: {}", content.len())), "{head}");
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let condition = format!("If-None-Match: {tag}");
    assert_eq!(status(&file, &["-H", &condition]).await.unwrap(), "304");
    assert_eq!(status(&file, &["-r", "999999999-"]).await.unwrap(), "416");
    // A download that goes on with another file begins again.
    write_file(&*storage, "images/a b.txt", ImageSource::bytes(&b"new"[..])).await.unwrap();
    let condition = format!("If-Range: {tag}");
    assert_eq!(curl(&["-r", "1-", "-H", &condition, &file]).await.unwrap(), "new");

    for (path, arguments, expected) in [
        ("/images/none", &[][..], "404"),
        ("/images/", &[], "403"),
        ("/", &[], "403"),
        ("/../../etc/passwd", &[], "404"),
        ("/%2e%2e/%2e%2e/etc/passwd", &[], "404"),
        ("/images/a%20b.txt", &["-X", "PUT", "-d", "x"], "405"),
        ("/images/%ff", &[], "404"),
        ("/%00", &[], "404"),
    ] {
        let found = status(&format!("{url}{path}"), arguments).await.unwrap();
        assert_eq!(found, expected, "{path}");
    }
    device.call("", "stop", vec![]).await.unwrap();
    assert_eq!(device.call("", "get_port", vec![]).await.unwrap(), 0);
    device.close().await.unwrap();
}

#[tokio::test]
async fn links_that_lead_out_are_not_served() {
    let all = tempfile::tempdir().unwrap();
    let root = all.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(all.path().join("secret"), "secret").unwrap();
    symlink("../secret", root.join("link")).unwrap();
    let device = open(json!({ "root_dir": root, "host": "127.0.0.1", "port": 0 })).await;
    device.call("", "start", vec![]).await.unwrap();
    let answer = get(&device, "/link").await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(!answer.contains("secret"), "{answer}");
    device.close().await.unwrap();
}

async fn get(device: &Device, path: &str) -> String {
    let port = device.call("", "get_port", vec![]).await.unwrap().as_u64().unwrap();
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port as u16)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// A start of a server that runs starts it anew, and the end of the driver frees its port and
/// removes what was put into the storage.
#[tokio::test]
async fn ports_and_files_are_released() {
    let root = tempfile::tempdir().unwrap();
    let free = jumpstarter_driver_testkit::reserve_port();
    let config = json!({ "root_dir": root.path(), "host": "127.0.0.1", "port": free });
    std::fs::write(root.path().join("kept"), "kept").unwrap();
    for _ in 0..2 {
        let device = open(config.clone()).await;
        device.call("", "start", vec![]).await.unwrap();
        device.call("", "start", vec![]).await.unwrap();
        let storage = device.get::<dyn Storage>("storage").unwrap();
        write_file(&*storage, "new/file", ImageSource::bytes(&b"x"[..])).await.unwrap();
        storage.create_dir("folder/".to_owned()).await.unwrap();
        let mut created = storage.get_created_resources().await.unwrap();
        created.sort();
        assert_eq!(created, ["folder", "new/file"]);
        assert!(get(&device, "/new/file").await.ends_with("\r\n\r\nx"));
        device.close().await.unwrap();
        assert!(!root.path().join("new/file").exists());
        assert!(!root.path().join("folder").exists());
        assert!(root.path().join("kept").exists());
    }
}

#[tokio::test]
async fn what_cannot_be_served_is_said_before() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    std::fs::write(&file, "").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = json!({ "root_dir": file, "host": "127.0.0.1", "port": port });
    let entry = Registry::linked().find(NAME).unwrap();
    let warnings = (entry.warnings)(config);
    let warnings: Vec<String> = warnings.iter().map(|one| one.message.clone()).collect();
    assert_eq!(
        warnings,
        [format!("{} is no folder", file.display()), format!("port {port} is in use")]
    );
}
