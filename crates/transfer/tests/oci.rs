//! Images in registries: a real one (Debian's docker-registry), and one that does what a real one
//! does not do on demand.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::TryStreamExt;
use jumpstarter_driver_core::image::ImageRequest;
use jumpstarter_driver_core::{Error, ErrorKind};
use jumpstarter_transfer::download;
use registry::{BASIC, MANIFEST, Registry, manifest, push_blob, push_manifest, sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

mod registry;

const DEADLINE: Duration = Duration::from_secs(60);
async fn fetch_with(url: &str, authorization: Option<&str>) -> Result<Vec<u8>, Error> {
    let request = ImageRequest::new(url)?;
    let request = match authorization {
        Some(value) => request.with_header("authorization", value),
        None => request,
    };
    let reading = download(request, DEADLINE)?.into_stream().try_collect::<Vec<_>>();
    let chunks = tokio::time::timeout(DEADLINE, reading).await.expect("it ends in time");
    chunks.map(|chunks| chunks.concat()).map_err(Error::from)
}

async fn fetch(url: &str) -> Result<Vec<u8>, Error> {
    fetch_with(url, None).await
}

#[tokio::test]
async fn from_a_real_registry() {
    let Some(registry) = Registry::start().await else { return };
    let address = &registry.address;
    let disk: Vec<u8> = (0..3_000_000_u32).map(|number| (number / 7) as u8).collect();
    let other = b"another disk".to_vec();
    for blob in [&disk[..], &other, b"{}"] {
        push_blob(address, "lab/os", blob).await;
    }
    let (one, two) =
        (manifest(&[("os.img", &disk)]), manifest(&[("os.img", &disk), ("b", &other)]));
    push_manifest(address, "lab/os", "1", MANIFEST, &one).await;
    push_manifest(address, "lab/os", "2", MANIFEST, &two).await;
    let entry = |text: &str, architecture: &str| {
        serde_json::json!({ "mediaType": MANIFEST, "digest": sha256(text.as_bytes()),
            "size": text.len(), "platform": { "os": "linux", "architecture": architecture } })
    };
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = serde_json::json!({ "schemaVersion": 2, "mediaType": kind,
        "manifests": [entry(&one, "amd64"), entry(&two, "arm64")] });
    push_manifest(address, "lab/os", "all", kind, &index.to_string()).await;

    let at = |rest: &str| format!("oci://{address}/lab/os{rest}");
    let get = async |rest: &str| fetch_with(&at(rest), Some(BASIC)).await;
    assert!(get(":1").await.unwrap() == disk);
    assert!(get(&format!("@{}", sha256(one.as_bytes()))).await.unwrap() == disk);
    assert_eq!(get(":2?layer=b").await.unwrap(), other);
    assert!(get(":all?platform=linux/amd64").await.unwrap() == disk);
    assert_eq!(get(":all?platform=linux/arm64&layer=b").await.unwrap(), other);
    for (rest, kind, text) in [
        (":2", ErrorKind::InvalidArgument, "several layers: os.img, b"),
        (":2?layer=c", ErrorKind::InvalidArgument, "no such layer, only os.img, b"),
        (":all", ErrorKind::InvalidArgument, "several images: linux/amd64, linux/arm64"),
        (":3", ErrorKind::NotFound, "404"),
    ] {
        let error = get(rest).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.report().contains(text), "{error:?}");
    }
    for credentials in [None, Some("Basic dXNlcjp3cm9uZw==")] {
        let error = fetch_with(&at(":1"), credentials).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
        assert!(error.hint().unwrap().contains("podman login 127.0.0.1"), "{error:?}");
    }
    registry.end(DEADLINE).await;
}

/// What a server was asked: first lines with the `authorization` header.
type Asked = Arc<Mutex<Vec<String>>>;

/// A server that answers each request as `answer` says, by the request's target and authorization.
async fn server(
    answer: impl Fn(&str, Option<&str>) -> (u16, String, Vec<u8>) + Send + 'static,
) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Asked::default();
    let seen = asked.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let target = head.split(' ').nth(1).unwrap().to_owned();
            let authorization = head.lines().find_map(|line| line.strip_prefix("authorization: "));
            seen.lock().unwrap().push(format!("{target} {}", authorization.unwrap_or("-")));
            let (status, headers, body) = answer(&target, authorization);
            let head = format!(
                "HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await.ok();
            stream.write_all(&body).await.ok();
        }
    });
    (address, asked)
}

#[tokio::test]
async fn a_token_is_fetched_and_goes_to_no_other_server() {
    let disk = b"the disk of a device".repeat(100);
    let stored = disk.clone();
    let (store, store_asked) = server(move |_, _| (200, String::new(), stored.clone())).await;
    let text = manifest(&[("os.img", &disk)]);
    let (tokens, tokens_asked) = server(|_, authorization| match authorization {
        None | Some(BASIC) => (200, String::new(), br#"{"token":"t0ken"}"#.to_vec()),
        Some(_) => (401, String::new(), Vec::new()),
    })
    .await;
    let (registry, asked) = server(move |target, authorization| {
        let challenge = format!(
            "www-authenticate: Bearer realm=\"http://{tokens}/token\",service=\"a b\",scope=\"repository:lab/os:push\"\r\n"
        );
        match (authorization, target.contains("/blobs/")) {
            (Some("Bearer t0ken"), false) => (200, String::new(), text.clone().into()),
            (Some("Bearer t0ken"), true) => {
                (307, format!("location: http://{store}/blob?sig=1\r\n"), Vec::new())
            }
            _ => (401, challenge, Vec::new()),
        }
    })
    .await;
    let url = format!("oci://{registry}/lab/os:1");
    assert!(fetch(&url).await.unwrap() == disk, "anonymous");
    assert!(fetch_with(&url, Some(BASIC)).await.unwrap() == disk);
    let path = "/token?scope=repository:lab/os:pull&service=a%20b";
    assert_eq!(*tokens_asked.lock().unwrap(), [format!("{path} -"), format!("{path} {BASIC}")]);
    assert_eq!(*store_asked.lock().unwrap(), ["/blob?sig=1 -", "/blob?sig=1 -"]);
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked[0], "/v2/lab/os/manifests/1 -", "nothing is shown before it is asked for");
    assert!(!asked.iter().any(|line| line.contains("Basic")), "{asked:?}");
    let error = fetch_with(&url, Some("Basic d3Jvbmc6eA==")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
}

#[tokio::test]
async fn what_is_damaged_too_large_or_no_image_is_refused() {
    let disk = b"the disk of a device".to_vec();
    let good = manifest(&[("os.img", &disk)]);
    let container = good.replace("vnd.example.disk", "vnd.oci.image.layer.v1.tar+gzip");
    let sha512 = good.replace("sha256:", "sha512:");
    let wanted = sha256(b"something else");
    type Case<'a> = (&'a str, Vec<u8>, Vec<u8>, ErrorKind, &'a str);
    let cases: Vec<Case<'_>> = vec![
        (
            ":1",
            good.clone().into(),
            b"the disk of a devicf".to_vec(),
            ErrorKind::DataLoss,
            "its digest is sha256:",
        ),
        (":1", good.clone().into(), disk[1..].to_vec(), ErrorKind::DataLoss, "announces 19 bytes"),
        (
            ":1",
            vec![b' '; (4 << 20) + 1],
            Vec::new(),
            ErrorKind::ResourceExhausted,
            "more than 4096 KiB",
        ),
        (":1", b"<html>".to_vec(), Vec::new(), ErrorKind::DataLoss, "it is no manifest"),
        (":1", container.into(), disk.clone(), ErrorKind::FailedPrecondition, "container image"),
        (":1", sha512.into(), disk.clone(), ErrorKind::FailedPrecondition, "is no SHA-256"),
        (&wanted, good.into(), disk.clone(), ErrorKind::DataLoss, "has the digest"),
    ];
    for (version, manifest, blob, kind, text) in cases {
        let (registry, _) = server(move |target, _| {
            let is_blob = target.contains("/blobs/");
            (200, String::new(), if is_blob { blob.clone() } else { manifest.clone() })
        })
        .await;
        let separator = if version.starts_with(':') { "" } else { "@" };
        let url = format!("oci://{registry}/lab/os{separator}{version}");
        let error = fetch(&url).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.report().contains(text), "{error:?}");
    }
}
