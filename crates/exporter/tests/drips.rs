//! Images that never come to an end: clients that send next to nothing, and encodings that ask for
//! gigabytes.

use std::time::Duration;

use jumpstarter_driver_core::ErrorKind;
use jumpstarter_protocol::v1::{FrameType, StreamRequest};
use jumpstarter_test_support::{end, error_of, frame, serve_file};

use jumpstarter_driver_flasher as _;

const FILE: &str = "
export:
  flasher: {type: jumpstarter_driver_opendal.driver.MockFlasher}
";

#[tokio::test]
async fn a_client_that_drips_is_given_up() {
    let ping = StreamRequest { payload: bytes::Bytes::new(), frame_type: FrameType::Ping.into() };
    let served = serve_file(FILE).await;
    for (what, drop) in [("pings", ping), ("empty frames", frame("")), ("bytes", frame("x"))] {
        let mut client = served.client().await;
        let stream = client.resource("flasher", None).await;
        let resource = stream.resource.clone().unwrap();
        let dripping = async {
            let mut tick = tokio::time::interval(Duration::from_millis(50));
            while stream.sender.send(drop.clone()).await.is_ok() {
                tick.tick().await;
            }
            std::future::pending::<()>().await;
        };
        let arguments = [resource];
        let status = tokio::select! {
            flashed = client.call("flasher", "flash", &arguments) => flashed.unwrap_err(),
            () = dripping => unreachable!(),
        };
        let error = error_of(&status);
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{what}: {status:?}");
        assert!(status.message().contains("bytes came in 2 s"), "{what}: {status:?}");
    }
    served.shut_down().await;
}

#[tokio::test]
async fn an_encoding_that_takes_too_much_memory_is_refused() {
    let served = serve_file(FILE).await;
    let mut client = served.client().await;
    let stream = client.resource("flasher", Some("zstd")).await;
    let resource = stream.resource.clone().unwrap();
    // A frame with a window of 2 GiB that holds one byte.
    stream.sender.send(frame(&b"\x28\xb5\x2f\xfd\x00\xa8\x09\x00\x00x"[..])).await.unwrap();
    stream.sender.send(end()).await.unwrap();
    let status = client.call("flasher", "flash", &[resource]).await.unwrap_err();
    assert_eq!(error_of(&status).kind(), ErrorKind::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("JMP_DECODER_MEMORY=2048MiB"), "{status:?}");
    served.shut_down().await;
}
