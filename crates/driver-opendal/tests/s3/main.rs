//! Buckets of a server that computes each signature, and fails on demand.
#![cfg(feature = "s3")]
#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::storage::{read_file, write_file};
use jumpstarter_driver_core::{FileMode, HashAlgorithm, Registry, Storage};
use jumpstarter_driver_opendal as _;
use jumpstarter_storage::s3_image;
use jumpstarter_transfer as _;
use serde_json::{Value, json};

mod server;

use server::{Fault, Server};

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

async fn fetch(source: ImageSource) -> Result<Vec<u8>> {
    let mut fetched = source.open().await?;
    let mut bytes = Vec::new();
    while let Some(piece) = fetched.receive().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_bucket() {
    let server = Server::start().await;
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
    // To this server a folder is also a file of its name, which it does not remove.
    storage.remove_all("a/".into()).await.unwrap();
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
    assert!(fetch(ImageSource::url(signed.url).unwrap()).await.unwrap() == image);

    // So is an image of a bucket.
    let settings: BTreeMap<String, String> = serde_json::from_value(server.settings()).unwrap();
    let place = settings.into_iter().filter(|(name, _)| !["bucket", "root"].contains(&&**name));
    let request = s3_image("s3://lab/boards/a/os image.img", place.collect()).await.unwrap();
    assert!(!request.to_string().contains("ignature"), "{request}");
    assert!(fetch(ImageSource::request(request)).await.unwrap() == image);

    // What was made is removed.
    device.close().await.unwrap();
    let device = open(server.settings()).await.unwrap();
    let storage = device.get::<dyn Storage>("").unwrap();
    let listed: Vec<_> = storage.scan("/".into()).await.unwrap().try_collect().await.unwrap();
    assert!(listed.is_empty(), "{listed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_a_bucket_name_no_secret() {
    let server = Server::start().await;
    let with = |name: &str, value: &str| {
        let mut settings = server.settings();
        settings[name] = value.into();
        settings
    };
    let nothing_listens = "http://127.0.0.1:1";
    for (settings, expected) in [
        (with("access_key_id", "nobody"), ErrorKind::PermissionDenied),
        (with("secret_access_key", "hush-hush"), ErrorKind::PermissionDenied),
        (with("endpoint", nothing_listens), ErrorKind::Unavailable),
    ] {
        let device = open(settings).await.unwrap();
        let storage = device.get::<dyn Storage>("").unwrap();
        let written = write_file(&*storage, "a", ImageSource::bytes(b"a".to_vec())).await;
        let error = written.unwrap_err();
        assert_eq!(error.kind(), expected, "{error:#}");
        let text = format!("{} {error:?}", error.report());
        assert!(
            !text.contains("hush") && !text.contains(server::SECRET) && !text.contains("ignature="),
            "{text}"
        );
        assert!(error.report().contains("writ") || error.report().contains("complet"), "{text}");
        // What it may have made cannot be removed either.
        device.close().await.unwrap_err();
    }
    // A wrong setting, to the service.
    let device = open(with("bucket", "none")).await.unwrap();
    let storage = device.get::<dyn Storage>("").unwrap();
    let error = storage.list("/".into()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:#}");
    assert!(error.report().contains("NoSuchBucket"), "{error:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_computes_each_signature() {
    let server = Server::start().await;
    let mut settings = server.settings();
    settings["secret_access_key"] = "hush-hush".into();
    let wrong = open(settings.clone()).await.unwrap();
    let storage = wrong.get::<dyn Storage>("").unwrap();
    let error = storage.exists("a".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:#}");
    assert_eq!(server.asked().len(), 1, "what is not permitted is not repeated");
    let signed = storage.presign_read("a".into(), 60).await.unwrap();
    let error = fetch(ImageSource::url(signed.url).unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:#}");
    // Without a signature neither.
    settings["skip_signature"] = "true".into();
    let error = read(&*open(settings).await.unwrap().get::<dyn Storage>("").unwrap(), "a").await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::PermissionDenied);

    let device = open(server.settings()).await.unwrap();
    let storage = device.get::<dyn Storage>("").unwrap();
    write_file(&*storage, "a", ImageSource::bytes(b"a".to_vec())).await.unwrap();
    assert_eq!(std::fs::read(server.stored("a")).unwrap(), b"a");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_in_passing_is_sent_again() {
    use Fault::{HalfAnswer, NoAnswer, Status};
    let server = Server::start().await;
    let device = open(server.settings()).await.unwrap();
    let storage = device.get::<dyn Storage>("").unwrap();
    // Two parts.
    let image: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 251) as u8).collect();
    server.fail([Status(503), NoAnswer, Status(429), Status(500)]);
    write_file(&*storage, "os.img", ImageSource::bytes(image.clone())).await.unwrap();
    assert!(std::fs::read(server.stored("os.img")).unwrap() == image);
    // The first request of a file asks for its length.
    server.fail([Status(502), NoAnswer, HalfAnswer, NoAnswer, HalfAnswer]);
    assert!(read(&*storage, "os.img").await.unwrap() == image);
    server.fail([NoAnswer, Status(504)]);
    storage.delete("os.img".into()).await.unwrap();
    assert!(!server.stored("os.img").exists());

    // It gives up, and says what the server says.
    server.asked();
    server.fail([Status(503); 5]);
    let error = storage.exists("a".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:#}");
    assert_eq!(server.asked().len(), 5);
    for refused in [400, 403, 501] {
        server.fail([Status(refused)]);
        storage.exists("a".into()).await.unwrap_err();
        assert_eq!(server.asked().len(), 1, "{refused} stays so");
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
    let found = check(json!({ "bucket": "lab", "region": "r", "secret_acess_key": "x" }));
    assert!(found.contains("no setting `secret_acess_key`"), "{found}");
    assert_eq!(check(json!({ "bucket": "lab", "aws_region": "r", "default_acl": "private" })), "");
    let fault = |kwargs: Value| {
        let problems = (entry.check)(json!({ "scheme": "s3", "kwargs": kwargs })).unwrap();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].hint.as_ref().is_none_or(|hint| !hint.contains("hush")));
        format!("{}: {}", problems[0].field, problems[0].message)
    };
    let at = |endpoint: &str| json!({ "bucket": "lab", "region": "r", "endpoint": endpoint });
    for good in ["http://s3.lab:9000", "s3.lab", "https://s3.lab/path"] {
        assert_eq!(check(at(good)), "", "{good}");
    }
    for (wrong, expected) in [
        ("http://s3 lab", "its host has characters"),
        ("http://", "it has no host"),
        ("ftp://s3.lab", "neither http nor https"),
        ("http://s3.lab:port", "port"),
    ] {
        let found = fault(at(wrong));
        assert!(found.starts_with("kwargs.endpoint: the URL is not usable"), "{found}");
        assert!(found.contains(expected), "{found}");
    }
    let secret = json!({ "env": "NOT_SET_HERE" });
    let found = json!({ "bucket": "lab", "region": secret, "secret_access_key": secret });
    assert_eq!(check(found), "", "what is elsewhere is not known yet");
    let found = fault(json!({ "bucket": "lab", "region": "r", "skip_signature": "perhaps" }));
    assert!(found.starts_with("kwargs: "), "{found}");
    if std::env::var_os("AWS_REGION").is_none() && std::env::var_os("AWS_DEFAULT_REGION").is_none()
    {
        assert_eq!(fault(json!({ "bucket": "lab" })), "kwargs: `region` is missing");
    }
    let error = open(json!({ "bucket": "lab", "region": "r", "checksum_algorithm": "none" }));
    let error = error.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:#}");
    let error = s3_image("s3://lab", BTreeMap::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:#}");
}
