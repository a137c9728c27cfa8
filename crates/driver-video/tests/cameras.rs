//! A camera that is the test, and the real ustreamer, which shows its own picture without a device.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{Registry, serde_json};
use jumpstarter_driver_testkit::skip;
use jumpstarter_driver_video::{Video, VideoServer, jpeg_size};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A file of 3 by 2 pixels, as far as its structure goes.
const FILE: &[u8] =
    &[0xff, 0xd8, 0xff, 0xc0, 0, 9, 8, 0, 2, 0, 3, 0, 0, 0xff, 0xda, 0, 2, 1, 2, 3, 0xff, 0xd9];

async fn open(config: Value) -> Result<Arc<dyn Video>> {
    let entry = Registry::linked().find("jumpstarter_driver_video.driver.HttpVideo").unwrap();
    let driver = (entry.open)(config, OpenContext::at("video")).await?;
    Device::of_shared_driver(driver).get::<dyn Video>("")
}

/// A camera: `/stream` never ends, `/still` is one picture, `/secret` asks for a login.
async fn camera() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move { serve(stream).await.ok() });
        }
    });
    format!("127.0.0.1:{}", address.port())
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut asked = Vec::new();
    while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut asked).await? == 0 {
            return Ok(());
        }
    }
    let asked = String::from_utf8_lossy(&asked).to_lowercase();
    let has_login = asked.contains("authorization: basic bwu6ahvzaa==");
    match asked.split(' ').nth(1).unwrap_or_default() {
        "/stream?size=2" => {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\
                        Content-Type: multipart/x-mixed-replace; boundary=x\r\n\r\n";
            stream.write_all(head.as_bytes()).await?;
            loop {
                for piece in [
                    b"--x\r\nContent-Type: image/jpeg\r\n\r\n".as_slice(),
                    &FILE[..9],
                    &FILE[9..],
                    b"\r\n",
                ] {
                    stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
                    stream.write_all(piece).await?;
                    stream.write_all(b"\r\n").await?;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        }
        path if path == "/still" || path == "/secret" && has_login => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", FILE.len());
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(FILE).await
        }
        "/secret" => stream.write_all(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n").await,
        "/text" => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await,
        "/moved" => stream.write_all(b"HTTP/1.1 302 There\r\nContent-Length: 0\r\n\r\n").await,
        _ => stream.write_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n").await,
    }
}

#[tokio::test]
async fn pictures_of_a_camera() {
    let camera = camera().await;
    let url = format!("http://{camera}/stream?size=2");
    let video = open(json!({ "url": url })).await.unwrap();
    assert_eq!(STANDARD.decode(video.snapshot().await.unwrap()).unwrap(), FILE);
    assert_eq!(video.stream_path().await.unwrap(), "/stream?size=2");
    let state = video.state().await.unwrap();
    assert_eq!((state.online, state.width, state.height), (true, Some(3), Some(2)));
    assert_eq!(
        serde_json::to_value(state).unwrap(),
        json!({ "online": true, "width": 3, "height": 2, "fps": null })
    );
    for single in ["still".to_owned(), "secret".to_owned()] {
        let single = format!("http://me:hush@{camera}/{single}");
        let video = open(json!({ "url": url, "snapshot_url": single })).await.unwrap();
        assert_eq!(STANDARD.decode(video.snapshot().await.unwrap()).unwrap(), FILE);
    }
    let mut channel = video.connect().await.unwrap();
    channel.send("GET /still HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert!(channel.receive().await.unwrap().unwrap().starts_with(b"HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn cameras_that_are_none() {
    let camera = camera().await;
    let check = async |url: String, kind: ErrorKind, why: &str| {
        let video = open(json!({ "url": url })).await.unwrap();
        let error = video.snapshot().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:#}");
        assert!(error.report().contains(why), "{}", error.report());
        assert!(!error.report().contains("hush"), "{}", error.report());
        assert!(!video.state().await.unwrap().online);
    };
    check(format!("http://{camera}/text"), ErrorKind::DataLoss, "of 2 bytes has no JPEG").await;
    check(format!("http://{camera}/none"), ErrorKind::NotFound, "answers 404").await;
    let secret = format!("http://me:hush2@{camera}/secret");
    check(secret, ErrorKind::PermissionDenied, "answers 401").await;
    check(format!("http://{camera}/moved"), ErrorKind::FailedPrecondition, "redirects to").await;
    check("http://127.0.0.1:1/".to_owned(), ErrorKind::Unavailable, "refused").await;
    for wrong in ["rtsp://camera/", "http://", "camera"] {
        let report = open(json!({ "url": wrong })).await.err().unwrap().report();
        assert!(report.contains("the URL is not usable"), "{report}");
    }
}

async fn ask(server: &VideoServer, path: &str, host: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let reading = async {
        while !answer.windows(2).any(|end| end == [0xff, 0xd9]) {
            if stream.read_buf(&mut answer).await.unwrap() == 0 {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reading).await.unwrap();
    answer
}

#[tokio::test]
async fn a_page_of_this_machine() {
    let url = format!("http://{}/stream?size=2", camera().await);
    let server = VideoServer::start(open(json!({ "url": url })).await.unwrap(), 0).await.unwrap();
    let text =
        async |path, host| String::from_utf8_lossy(&ask(&server, path, host).await).into_owned();
    let page = text("/", "localhost:80").await;
    assert!(page.starts_with("HTTP/1.1 200 OK") && page.contains("src=\"/stream\""), "{page}");
    let picture = ask(&server, "/snapshot", "127.0.0.1").await;
    assert!(picture.ends_with(FILE));
    let stream = text("/stream", "127.0.0.1").await;
    assert!(stream.contains("boundary=x\r\n") && stream.contains("--x\r\n"), "{stream}");
    assert!(text("/else", "localhost").await.starts_with("HTTP/1.1 404"));
    // Another page's name that was made to lead here.
    assert!(text("/snapshot", "evil.example").await.starts_with("HTTP/1.1 403"));

    let nobody = open(json!({ "url": "http://127.0.0.1:1/" })).await.unwrap();
    let mut server = VideoServer::start(nobody, 0).await.unwrap();
    let answer = ask(&server, "/stream", "localhost").await;
    assert!(answer.starts_with(b"HTTP/1.1 502"));
    assert_eq!(server.failure().await.kind(), ErrorKind::Unavailable);
}

/// Opens the real program; `None` after a skip.
async fn ustreamer(config: Value) -> Option<Result<Arc<dyn Driver>>> {
    let path = std::env::var_os("PATH").unwrap();
    if !std::env::split_paths(&path).any(|folder| folder.join("ustreamer").exists()) {
        skip("ustreamer is not installed: apt-get install ustreamer");
        return None;
    }
    let entry = Registry::linked().find("jumpstarter_driver_ustreamer.driver.UStreamer").unwrap();
    Some((entry.open)(config, OpenContext::at("video")).await)
}

#[tokio::test]
async fn the_real_ustreamer() {
    let args = json!({ "args": { "device": "/dev/none", "fake-resolution": "320x240", "buffers": 2, "persistent": true } });
    let Some(driver) = ustreamer(args).await else { return };
    let device = Device::of_shared_driver(driver.unwrap());
    let video = device.get::<dyn Video>("").unwrap();
    let state = video.state().await.unwrap();
    assert_eq!((state.online, state.width, state.height), (false, Some(320), Some(240)));
    let details = serde_json::to_value(&state).unwrap();
    assert_eq!(details["ok"], true);
    assert_eq!(details["result"]["encoder"]["type"], "CPU");
    let picture = STANDARD.decode(video.snapshot().await.unwrap()).unwrap();
    assert_eq!(jpeg_size(&picture), Some((640, 480)));
    let server = VideoServer::start(video.clone(), 0).await.unwrap();
    let stream = ask(&server, "/stream", "localhost").await;
    assert!(String::from_utf8_lossy(&stream).contains("multipart/x-mixed-replace"));
    device.close().await.unwrap();
    assert_eq!(video.state().await.unwrap_err().kind(), ErrorKind::FailedPrecondition);
}

#[tokio::test]
async fn a_ustreamer_that_does_not_run() {
    let Some(refused) = ustreamer(json!({ "args": { "format": "NONE" } })).await else { return };
    let report = refused.err().unwrap().report();
    assert!(report.contains("ustreamer has ended: exit code 1"), "{report}");
    assert!(report.contains("Unknown"), "{report}");
    let missing = ustreamer(json!({ "executable": "no-such-ustreamer" })).await.unwrap();
    assert!(missing.err().unwrap().report().contains("apt-get install ustreamer"));
    for (name, why) in [("unix", "is set by the driver"), ("--device", "is no name of an option")] {
        let wrong = ustreamer(json!({ "args": { name: "x" } })).await.unwrap();
        let report = wrong.err().unwrap().report();
        assert!(report.contains(why), "{report}");
    }
}
