//! Clients that send frames without end that carry nothing: their connection is ended, and no other
//! one suffers.

use jumpstarter_test_support::http2::{
    Connection, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, block, field, frame,
};
use jumpstarter_test_support::serve_file;

use jumpstarter_driver_power as _;

const PRIORITY: u8 = 2;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const UNKNOWN: u8 = 0xfa;
const POWER: &str = "export: {power: {type: jumpstarter_driver_power.driver.MockPower}}";
const GET_REPORT: &str = "/jumpstarter.v1.ExporterService/GetReport";

#[tokio::test]
async fn floods_end_their_connection_and_no_other() {
    let served = serve_file(POWER).await;
    let mut honest = served.client().await;
    let block = block(GET_REPORT, &field(":authority", "exporter"));
    let open = frame(HEADERS, END_HEADERS, 1, &block);
    let floods = [
        ("SETTINGS", vec![], frame(SETTINGS, 0, 0, &[])),
        ("answers to SETTINGS", vec![], frame(SETTINGS, 1, 0, &[])),
        ("PING", vec![], frame(PING, 0, 0, &[7; 8])),
        ("answers to PING", vec![], frame(PING, 1, 0, &[7; 8])),
        ("PRIORITY", vec![], frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        ("WINDOW_UPDATE", vec![], frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("unknown frames", vec![], frame(UNKNOWN, 0, 0, &[1, 2, 3])),
        ("empty DATA", open.clone(), frame(DATA, 0, 1, &[])),
        ("empty DATA with padding", open.clone(), frame(DATA, 8, 1, &[0])),
        ("DATA of one byte", open.clone(), frame(DATA, 0, 1, &[0])),
        ("empty CONTINUATION", frame(HEADERS, 0, 1, &block), frame(CONTINUATION, 0, 1, &[])),
        ("RST_STREAM", open, frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])),
    ];
    for (name, first, each) in floods {
        let mut connection = Connection::open(&served).await;
        connection.send(&first).await;
        let reason = connection.flood(&each.repeat(100), 10_000).await;
        assert_ne!(reason, Some(0), "{name}");
        honest.call("power", "on", &[]).await.unwrap();
    }
    drop(honest);
    served.shut_down().await;
}

#[tokio::test]
async fn as_many_frames_as_a_busy_client_sends_are_no_flood() {
    let served = serve_file(POWER).await;
    let mut connection = Connection::open(&served).await;
    let block = block(GET_REPORT, &field(":authority", "exporter"));
    let mut stream = 1;
    for _ in 0..2000 {
        let call = [
            frame(HEADERS, END_HEADERS, stream, &block),
            frame(DATA, END_STREAM, stream, &[0; 5]),
            frame(PING, 0, 0, &[7; 8]),
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]),
            frame(WINDOW_UPDATE, 0, stream, &[0, 0, 1, 0]),
        ];
        connection.send(&call.concat()).await;
        connection.next_of(PING, 0).await;
        stream += 2;
    }
    drop(connection);
    served.shut_down().await;
}
