//! Verbs of cameras: the real ustreamer, which shows its own picture without a device.

use insta::assert_snapshot;
use jumpstarter_driver_testkit::skip;
use jumpstarter_supervise::Signal;

use crate::lab::{Bench, line};
use crate::terminal::code;

const FILE: &str = "
metadata: {name: lab}
export:
  camera: {type: ustreamer, config: {args: {device: /dev/none}}}
";

#[tokio::test(flavor = "multi_thread")]
async fn pictures_of_ustreamer() {
    let path = std::env::var_os("PATH").unwrap();
    if !std::env::split_paths(&path).any(|folder| folder.join("ustreamer").exists()) {
        return skip("ustreamer is not installed: apt-get install ustreamer");
    }
    let bench = Bench::of(FILE).await;
    assert_snapshot!(bench.j(&["camera", "snapshot"]).await, @"snapshot.jpg: 640x480");
    assert!(std::fs::read(bench.lab.path("snapshot.jpg")).unwrap().starts_with(&[0xff, 0xd8]));
    let state = bench.j(&["camera", "state"]).await;
    assert!(state.contains("online: false\n") && state.contains("width: 640\n"), "{state}");
    let (stream, mut lines) = bench.start(&["camera", "stream", "--no-browser"]).await;
    let url = line(&mut lines, &stream).await;
    assert!(url.starts_with("http://127.0.0.1:") && url.ends_with('/'), "{url}");
    let place = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let page = tokio::task::spawn_blocking(move || {
        use std::io::{Read, Write};
        let mut browser = std::net::TcpStream::connect(&place).unwrap();
        write!(browser, "GET / HTTP/1.1\r\nHost: {place}\r\n\r\n").unwrap();
        let mut page = String::new();
        browser.read_to_string(&mut page).unwrap();
        page
    });
    assert!(page.await.unwrap().contains("<img src=\"/stream\""));
    stream.signal(Signal::INT);
    assert_eq!(code(&stream).await, Some(0));
}
