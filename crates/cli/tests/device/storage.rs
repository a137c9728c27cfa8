//! Verbs of storage multiplexers. The test brings its driver.

use std::sync::{Arc, Mutex};

use insta::assert_snapshot;
use jumpstarter_driver_core::Device;
use jumpstarter_driver_core::prelude::*;

use crate::served::Served;

#[derive(Debug, Default)]
struct Card {
    holder: Mutex<&'static str>,
    content: Mutex<Vec<u8>>,
}

impl Card {
    fn require_host(&self) -> Result<()> {
        match *self.holder.lock().unwrap() {
            "host" => Ok(()),
            _ => Err(Error::failed_precondition("the exporter's host does not have the card")),
        }
    }
}

impl Driver for Card {
    interfaces!(StorageMux);
}

#[async_trait]
impl StorageMux for Card {
    async fn host(&self) -> Result<()> {
        *self.holder.lock().unwrap() = "host";
        Ok(())
    }
    async fn dut(&self) -> Result<()> {
        *self.holder.lock().unwrap() = "dut";
        Ok(())
    }
    async fn off(&self) -> Result<()> {
        *self.holder.lock().unwrap() = "";
        Ok(())
    }
    async fn write(&self, src: ImageSource) -> Result<()> {
        self.require_host()?;
        let mut stream = src.open().await?;
        let mut content = Vec::new();
        while let Some(bytes) = stream.receive().await? {
            content.extend_from_slice(&bytes);
        }
        *self.content.lock().unwrap() = content;
        Ok(())
    }
    async fn read(&self, mut dst: ImageSink) -> Result<()> {
        self.require_host()?;
        let content = self.content.lock().unwrap().clone();
        dst.write(bytes::Bytes::from(content)).await?;
        dst.finish().await
    }
}

/// What has the card.
struct Shelf(Arc<Card>);

impl Driver for Shelf {
    fn children(&self) -> Vec<Child> {
        vec![Child::new("card", self.0.clone())]
    }
}

async fn served() -> (Served, Arc<Card>) {
    let card = Arc::new(Card::default());
    let served = Served::device(Device::of_driver(Shelf(card.clone()))).await;
    std::fs::write(served.lab.path("os.img"), vec![7; 300_000]).unwrap();
    (served, card)
}

#[tokio::test]
async fn a_card_changes_hands() {
    let (served, card) = served().await;
    for holder in ["host", "dut"] {
        assert_eq!(served.j(&["card", holder]).await, "");
        assert_eq!(*card.holder.lock().unwrap(), holder);
        assert_eq!(served.j(&["card", "off", "--output", "json"]).await, "null\n");
        assert_eq!(*card.holder.lock().unwrap(), "");
    }
}

#[tokio::test]
async fn a_card_is_written_and_read() {
    let (served, card) = served().await;
    assert_eq!(served.j(&["card", "host"]).await, "");
    assert_snapshot!(served.j(&["card", "write", "os.img"]).await, @r"
    --- stderr
    os.img: 292.97 KiB in TIME (RATE)
    ");
    assert_eq!(card.content.lock().unwrap().len(), 300_000);
    assert_snapshot!(served.j(&["card", "read", "back.img"]).await, @r"
    --- stderr
    medium → back.img: 292.97 KiB in TIME (RATE)
    ");
    assert!(std::fs::read(served.lab.path("back.img")).unwrap() == vec![7; 300_000]);
}

#[tokio::test]
async fn summaries_of_a_card_are_json() {
    let (served, _card) = served().await;
    assert_snapshot!(served.j(&["card", "write", "os.img", "--output", "json"]).await, @r#"
    --- stderr
    {"error":"the exporter's host does not have the card","kind":"FailedPrecondition","hint":null}
    --- exit code 1
    "#);
    assert_eq!(served.j(&["card", "host", "--output", "json"]).await, "null\n");
    assert_snapshot!(served.j(&["card", "write", "os.img", "--output", "json"]).await, @r#"{"file":"os.img","bytes":300000,"seconds":"SECONDS","bytes_per_second":"RATE"}"#);
    assert_snapshot!(served.j(&["card", "read", "back.img", "--output", "json"]).await, @r#"{"file":"back.img","bytes":300000,"seconds":"SECONDS","bytes_per_second":"RATE"}"#);
    assert_snapshot!(served.j_with(&["card", "write", "-", "--output", "json"], b"short").await, @r#"{"file":"-","bytes":5,"seconds":"SECONDS","bytes_per_second":"RATE"}"#);
    // The image itself is on standard output then.
    assert_snapshot!(served.j_with(&["card", "read", "-", "--output", "json"], b"").await, @"short");
}
