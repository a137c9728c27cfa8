//! The passphrase over the wire: every kind of call asks for it.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

use std::time::{Duration, Instant};

use jumpstarter_driver_core::Secret;
use jumpstarter_driver_power as _;
use jumpstarter_exporter::Access;
use jumpstarter_protocol::v1::exporter_service_client::ExporterServiceClient;
use jumpstarter_protocol::v1::router_service_client::RouterServiceClient;
use jumpstarter_protocol::v1::{
    DriverCallRequest, EndSessionRequest, GetStatusRequest, ResetRequest,
    StreamingDriverCallRequest,
};
use jumpstarter_test_support::{DEADLINE, serve_guarded, transport};
use tonic::{Code, Request, Status};

const KINDS: [&str; 8] = [
    "GetReport",
    "DriverCall",
    "StreamingDriverCall",
    "Stream",
    "LogStream",
    "GetStatus",
    "Reset",
    "EndSession",
];

/// The first answer to a call of that kind.
async fn call(
    transport: tonic::transport::Channel,
    kind: &str,
    passphrase: Option<&str>,
) -> Result<(), Status> {
    let add = move |mut request: Request<()>| {
        if let Some(passphrase) = passphrase {
            request.metadata_mut().insert("x-jumpstarter-passphrase", passphrase.parse().unwrap());
        }
        Ok(request)
    };
    let mut exporter = ExporterServiceClient::with_interceptor(transport.clone(), add);
    let mut router = RouterServiceClient::with_interceptor(transport, add);
    let answered = async {
        match kind {
            "GetReport" => exporter.get_report(()).await.map(drop),
            "DriverCall" => exporter.driver_call(DriverCallRequest::default()).await.map(drop),
            "StreamingDriverCall" => exporter
                .streaming_driver_call(StreamingDriverCallRequest::default())
                .await
                .map(drop),
            "Stream" => router.stream(futures_util::stream::pending()).await.map(drop),
            "LogStream" => exporter.log_stream(()).await.map(drop),
            "GetStatus" => exporter.get_status(GetStatusRequest {}).await.map(drop),
            "Reset" => exporter.reset(ResetRequest {}).await.map(drop),
            "EndSession" => exporter.end_session(EndSessionRequest {}).await.map(drop),
            kind => unreachable!("{kind}"),
        }
    };
    tokio::time::timeout(DEADLINE, answered).await.expect("an answer in time")
}

#[tokio::test]
async fn every_kind_of_call_asks_for_it() {
    let file = "export: {power: {type: jumpstarter_driver_power.driver.MockPower}}";
    let config = jumpstarter_config::ExporterConfig::parse(file, "test.yaml").unwrap();
    let access = Access::default().passphrase(Secret::new("right"));
    let served = serve_guarded(config.open().await.unwrap(), access).await;
    let socket = served.folder.path().join("socket");
    let honest = transport(&socket).await;
    call(honest.clone(), "GetStatus", Some("right")).await.unwrap();
    for kind in KINDS {
        let stranger = transport(&socket).await;
        for given in [None, Some("wrong"), Some("")] {
            let status = call(stranger.clone(), kind, given).await.unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated, "{kind} with {given:?}: {status:?}");
        }
        // The right one is admitted at once, on old connections and on new ones.
        let answered = call(honest.clone(), kind, Some("right")).await;
        let code = answered.err().map(|status| status.code());
        assert_ne!(code, Some(Code::Unauthenticated), "{kind}");
        call(transport(&socket).await, "GetStatus", Some("right")).await.unwrap();
    }
    drop(honest);
    served.shut_down().await;
}

#[tokio::test]
async fn a_guesser_keeps_out_nobody_and_is_answered_late() {
    let file = "export: {power: {type: jumpstarter_driver_power.driver.MockPower}}";
    let config = jumpstarter_config::ExporterConfig::parse(file, "test.yaml").unwrap();
    let access = Access::default().passphrase(Secret::new("right"));
    let served = serve_guarded(config.open().await.unwrap(), access).await;
    let socket = served.folder.path().join("socket");
    let guesses: Vec<_> = (0..50)
        .map(|number| {
            let socket = socket.clone();
            tokio::spawn(async move {
                let guess = format!("guess {number}");
                call(transport(&socket).await, "GetStatus", Some(&guess)).await.unwrap_err()
            })
        })
        .collect();
    // All of them come from the address of the honest client.
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let start = Instant::now();
        call(transport(&socket).await, "GetStatus", Some("right")).await.unwrap();
        slowest = slowest.max(start.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    let mut waited = 0;
    for guess in guesses {
        let status = guess.await.unwrap();
        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
        waited += usize::from(status.message() == "wrong passphrase");
    }
    // Eight at a time, and more where the guesses themselves come slowly.
    assert!((1..45).contains(&waited), "{waited} guesses of 50 were answered in turn");
    served.shut_down().await;
}
