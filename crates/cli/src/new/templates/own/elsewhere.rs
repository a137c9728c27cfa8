//! What callers elsewhere see of the driver: the calls go over a real exporter.

use jumpstarter::prelude::*;
use jumpstarter::serde_json::json;
use jumpstarter::testkit::{open, served};

#[tokio::test]
async fn its_brightness_can_be_set_from_elsewhere() -> Result<()> {
    let device = open::<acme_lamp::AcmeLampConfig>(json!({ "brightness": 50 })).await?;
    let served = served(device).await?;
    let lamp = served.device().get::<dyn acme_lamp::AcmeLamp>("")?;
    assert_eq!(lamp.set_brightness(80).await?, 50);
    assert_eq!(lamp.brightness().await?, 80);
    let error = lamp.set_brightness(101).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    served.close().await
}
