//! Files in the exporter's memory.
#![cfg(feature = "memory")]

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::storage::write_file;
use jumpstarter_driver_core::{Registry, Storage};
use jumpstarter_driver_opendal as _;
use serde_json::json;

#[tokio::test]
async fn memory_takes_files_in_pieces_up_to_its_limit() {
    let entry = Registry::linked().find("opendal").unwrap();
    let driver = (entry.open)(json!({ "scheme": "memory" }), OpenContext::at("files")).await;
    let device = Device::of_shared_driver(driver.unwrap());
    let storage = device.get::<dyn Storage>("").unwrap();
    let write = async |path: &str, size: usize, count: usize| {
        let piece = Bytes::from(vec![7; size]);
        let pieces = stream::iter(std::iter::repeat_n(piece, count).map(Ok));
        let written = write_file(&*storage, path, ImageSource::stream(pieces, None));
        tokio::time::timeout(Duration::from_secs(60), written).await.expect("it ends")
    };
    write("small", 65536, 48).await.unwrap();
    assert_eq!(storage.stat("small".into()).await.unwrap().content_length, 3 << 20);
    let error = write("large", 1 << 20, 300).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:#}");
    assert!(!storage.exists("large".into()).await.unwrap());
    write("small", 65536, 16).await.unwrap();
    assert_eq!(storage.stat("small".into()).await.unwrap().content_length, 1 << 20);
}
