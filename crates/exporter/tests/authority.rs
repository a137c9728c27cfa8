//! What the server makes of authorities, written in each way that HTTP/2 knows: real bytes on a
//! real socket.

use std::collections::BTreeMap;

use jumpstarter_test_support::http2::{
    Connection, DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, block, field, frame,
};
use jumpstarter_test_support::serve_file;

use jumpstarter_driver_power as _;

const CONTINUATION: u8 = 9;
const PROTOCOL_ERROR: [u8; 4] = [0, 0, 0, 1];

/// A call of `GetReport` with this field as its authority: its header block in two frames, and an
/// empty message.
fn call(stream: u32, authority: &[u8]) -> Vec<u8> {
    let block = block("/jumpstarter.v1.ExporterService/GetReport", authority);
    let (first, second) = block.split_at(block.len() / 2);
    [
        frame(HEADERS, 0, stream, first),
        frame(CONTINUATION, END_HEADERS, stream, second),
        frame(DATA, END_STREAM, stream, &[0; 5]),
    ]
    .concat()
}

/// What comes first for each stream: the kind of frame, and its payload.
async fn answers(sent: &[u8], streams: usize) -> BTreeMap<u32, (u8, Vec<u8>)> {
    let served =
        serve_file("export: {power: {type: jumpstarter_driver_power.driver.MockPower}}").await;
    let mut connection = Connection::open(&served).await;
    connection.send(sent).await;
    let mut answers = BTreeMap::new();
    while answers.len() < streams {
        let frame = connection.next().await;
        if frame.stream != 0 {
            answers.entry(frame.stream).or_insert((frame.kind, frame.payload));
        }
    }
    drop(connection);
    served.shut_down().await;
    answers
}

#[tokio::test]
async fn authorities_with_a_percent_are_served_however_they_are_written() {
    // `a%2Fb` in Huffman's code: 00011 010101 00010 1100001 100011, and ones.
    let coded = [0x84, 0b0001_1010, 0b1010_0010, 0b1100_0011, 0b0001_1111];
    // `:authority` likewise.
    let coded_name = [0x88, 0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f];
    let plain = [&[5][..], b"a%2Fb"].concat();
    let calls = [
        call(1, &[&[0x41][..], &plain].concat()), // kept in the table
        call(3, &[&[0x01][..], &coded].concat()),
        call(5, &[&[0x7e][..], &plain].concat()), // the name of the entry that stream 1 made
        // That one again, behind the entry of stream 5.
        call(7, &[&[0x7f, 0x00][..], &coded].concat()),
        call(9, &[&[0x40][..], &coded_name, &coded].concat()),
        call(11, &[0xbe]), // the whole entry of stream 9
        call(13, &field(":authority", "tmp%2Fdir%2Fname.sock")),
    ];
    for (stream, (kind, payload)) in answers(&calls.concat(), 7).await {
        // 0x88 is `:status 200`.
        assert_eq!((kind, payload[0]), (HEADERS, 0x88), "stream {stream}: {payload:02x?}");
    }
}

#[tokio::test]
async fn an_authority_that_cannot_be_ends_its_call_only() {
    let calls = [
        call(1, &field(":authority", "a^b")),
        call(3, &field(":authority", "a%2Fb")),
        call(5, &field(":authority", "a b")),
        call(7, &field(":authority", "a:b:c%")),
        call(9, &field(":authority", "a")),
    ];
    let answers = answers(&calls.concat(), 5).await;
    for stream in [1, 5, 7] {
        assert_eq!(answers[&stream], (RST_STREAM, PROTOCOL_ERROR.to_vec()), "stream {stream}");
    }
    for stream in [3, 9] {
        assert_eq!((answers[&stream].0, answers[&stream].1[0]), (HEADERS, 0x88), "stream {stream}");
    }
}
