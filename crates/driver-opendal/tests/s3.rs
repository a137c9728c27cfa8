//! Buckets of a server that others wrote, s3rver. It knows users and dates of signatures, and does
//! not compute the signatures.
#![cfg(feature = "s3")]
#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures_util::TryStreamExt;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::storage::{read_file, write_file};
use jumpstarter_driver_core::{FileMode, HashAlgorithm, Registry, Storage};
use jumpstarter_driver_opendal as _;
use jumpstarter_storage::s3_image;
use jumpstarter_supervise::{Child, Command, Sink};
use jumpstarter_test_support::npm;
use jumpstarter_transfer as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

/// The server, from npm's registry: 14 MB with what it needs.
const PACKAGE: &str = "s3rver@3.7.1";
/// From its start until it listens.
const LIMIT: Duration = Duration::from_secs(120);
/// Its only user, and that user's password.
const KEY: &str = "S3RVER";

/// A server with the bucket `lab`.
struct Server {
    _folder: tempfile::TempDir,
    _child: Child,
    endpoint: String,
}

impl Server {
    async fn start() -> Option<Self> {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let program = npm::package(cache, PACKAGE).await?.join("node_modules/.bin/s3rver");
        let folder = tempfile::tempdir().unwrap();
        let command = Command::new(program)
            .args(["--address", "127.0.0.1", "--port", "0", "--configure-bucket", "lab"])
            .arg("--directory")
            .arg(folder.path());
        let child = command.stdout(Sink::Piped).spawn().await.unwrap();
        let mut lines = BufReader::new(child.take_stdout().unwrap()).lines();
        let address = tokio::time::timeout(LIMIT, async {
            loop {
                let line = lines.next_line().await.unwrap().expect("it listens");
                if let Some((_, address)) = line.split_once("listening on ") {
                    return address.trim().to_owned();
                }
            }
        });
        let endpoint = format!("http://{}", address.await.unwrap());
        // A server whose output nobody reads breaks off.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Some(Self { _folder: folder, _child: child, endpoint })
    }

    fn settings(&self) -> Value {
        json!({
            "bucket": "lab",
            "root": "boards/a",
            "endpoint": self.endpoint,
            "region": "us-east-1",
            "access_key_id": KEY,
            "secret_access_key": KEY,
        })
    }
}

async fn open(kwargs: Value) -> Result<Device> {
    let entry = Registry::linked().find("opendal").unwrap();
    let config = json!({ "scheme": "s3", "kwargs": kwargs, "remove_created_on_close": true });
    let driver = (entry.open)(config, OpenContext::at("files")).await?;
    Ok(Device::of_shared_driver(driver))
}

async fn read(storage: &dyn Storage, path: &str) -> Result<Vec<u8>> {
    let (reader, writer) = tokio::io::duplex(64 * 1024);
    let mut bytes = Vec::new();
    let mut reader = reader;
    let receiving = tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut bytes);
    let (sent, received) =
        tokio::join!(read_file(storage, path, ImageSink::writer(writer)), receiving);
    received.unwrap();
    sent.map(|()| bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_bucket() {
    let Some(server) = Server::start().await else { return };
    let device = open(server.settings()).await.unwrap();
    let storage = device.get::<dyn Storage>("").unwrap();
    // More than one part.
    let image: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 251) as u8).collect();
    write_file(&*storage, "os image.img", ImageSource::bytes(image.clone())).await.unwrap();
    write_file(&*storage, "a/empty", ImageSource::bytes(Vec::new())).await.unwrap();
    assert!(read(&*storage, "os image.img").await.unwrap() == image);
    assert_eq!(read(&*storage, "a/empty").await.unwrap(), b"");
    let found = storage.stat("os image.img".into()).await.unwrap();
    assert_eq!((found.content_length, found.mode.is_file), (20_000_000, true));
    assert!(found.etag.is_some());
    let md5 = storage.hash("os image.img".into(), Some(HashAlgorithm::Md5)).await.unwrap();
    assert_eq!(md5.len(), 32);
    let file = storage.open("os image.img".into(), FileMode::Read).await.unwrap();
    assert_eq!(storage.file_seek(file.clone(), -3, Some(2)).await.unwrap(), 19_999_997);
    storage.file_close(file).await.unwrap();

    storage.copy("os image.img".into(), "a/copy".into()).await.unwrap();
    let listed: Vec<_> = storage.list("/".into()).await.unwrap().try_collect().await.unwrap();
    assert_eq!(listed, ["/", "a/", "os image.img"]);
    let listed: Vec<_> = storage.scan("a/".into()).await.unwrap().try_collect().await.unwrap();
    assert_eq!(listed, ["a/", "a/copy", "a/empty"]);
    let error = storage.rename("a/copy".into(), "b".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unimplemented, "{error:#}");
    // The server fails to remove two files of a folder at once.
    storage.delete("a/empty".into()).await.unwrap();
    storage.remove_all("a".into()).await.unwrap();
    assert!(!storage.exists("a/copy".into()).await.unwrap());
    let error = read(&*storage, "a/copy").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:#}");
    storage.delete("nothing".into()).await.unwrap();

    // A file that is not closed is never seen.
    let file = storage.open("half".into(), FileMode::Write).await.unwrap();
    storage.file_write(file, ImageSource::bytes(vec![1; 1000])).await.unwrap();
    assert!(!storage.exists("half".into()).await.unwrap());

    // Anybody may use a signed request, without credentials.
    let signed = storage.presign_read("os image.img".into(), 60).await.unwrap();
    assert!(!format!("{signed:?}").contains("ignature"), "{signed:?}");
    let mut fetched = ImageSource::url(signed.url).unwrap().open().await.unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = fetched.receive().await.unwrap() {
        bytes.extend_from_slice(&piece);
    }
    assert!(bytes == image);

    // So is an image of a bucket.
    let settings: BTreeMap<String, String> = serde_json::from_value(server.settings()).unwrap();
    let place = settings.into_iter().filter(|(name, _)| !["bucket", "root"].contains(&&**name));
    let request = s3_image("s3://lab/boards/a/os image.img", place.collect()).await.unwrap();
    assert!(!request.to_string().contains("ignature"), "{request}");
    let mut fetched = ImageSource::request(request).open().await.unwrap();
    let mut length = 0;
    while let Some(piece) = fetched.receive().await.unwrap() {
        length += piece.len();
    }
    assert_eq!(length, image.len());

    // What was made is removed.
    device.close().await.unwrap();
    let device = open(server.settings()).await.unwrap();
    let storage = device.get::<dyn Storage>("").unwrap();
    let listed: Vec<_> = storage.scan("/".into()).await.unwrap().try_collect().await.unwrap();
    assert!(listed.is_empty(), "{listed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_a_bucket_name_no_secret() {
    let Some(server) = Server::start().await else { return };
    let with = |name: &str, value: &str| {
        let mut settings = server.settings();
        settings["secret_access_key"] = "hush-hush".into();
        settings[name] = value.into();
        settings
    };
    let nothing_listens = "http://127.0.0.1:1";
    for (settings, expected) in [
        (with("access_key_id", "nobody"), ErrorKind::PermissionDenied),
        // A wrong setting, to the service.
        (with("bucket", "none"), ErrorKind::InvalidArgument),
        (with("endpoint", nothing_listens), ErrorKind::Unavailable),
    ] {
        let device = open(settings).await.unwrap();
        let storage = device.get::<dyn Storage>("").unwrap();
        let written = write_file(&*storage, "a", ImageSource::bytes(b"a".to_vec())).await;
        let error = written.unwrap_err();
        assert_eq!(error.kind(), expected, "{error:#}");
        let text = format!("{} {error:?}", error.report());
        assert!(!text.contains("hush") && !text.contains("ignature="), "{text}");
        assert!(error.report().contains("writ") || error.report().contains("complet"), "{text}");
        // What it may have made cannot be removed either.
        device.close().await.unwrap_err();
    }
}

#[tokio::test]
async fn wrong_settings_of_a_bucket_are_refused() {
    let entry = Registry::linked().find("opendal").unwrap();
    let check = |kwargs: Value| {
        let problems = (entry.check)(json!({ "scheme": "s3", "kwargs": kwargs })).unwrap();
        problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("\n")
    };
    assert!(check(json!({ "endpoint": "http://s3.lab" })).contains("`bucket` is missing"));
    let found = check(json!({ "bucket": "lab", "secret_acess_key": "x" }));
    assert!(found.contains("no setting `secret_acess_key`"), "{found}");
    assert_eq!(check(json!({ "bucket": "lab", "aws_region": "r", "default_acl": "private" })), "");
    let error = open(json!({ "bucket": "lab", "region": "r", "checksum_algorithm": "none" }));
    let error = error.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:#}");
    let error = s3_image("s3://lab", BTreeMap::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:#}");
}
