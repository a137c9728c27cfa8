//! The messages in the body of a call, from any bytes of a client, in any pieces.
#![no_main]

use std::future::poll_fn;

use bytes::Bytes;
use jumpstarter_protocol::http2::ServerConnection;
use jumpstarter_protocol::v1::StreamRequest;
use jumpstarter_protocol::{Incoming, Memory, MessageEncoding};
use libfuzzer_sys::fuzz_target;

const MAX_MESSAGE: usize = 64 << 10;

/// Reads a body that is sent in pieces of that size: returns the messages, and whether they end
/// with an error.
async fn received(body: &[u8], piece: usize, encoding: Option<MessageEncoding>) -> (Vec<StreamRequest>, bool) {
    let (near, far) = tokio::io::duplex(1 << 20);
    let body = body.to_vec();
    let sending = async move {
        let (requests, connection) = h2::client::handshake(near).await.expect("the server is there");
        let sending = async move {
            let mut requests = requests.ready().await.expect("the connection is open");
            let request = http::Request::post("http://exporter/").body(()).expect("it is a request");
            let (_answer, mut stream) = requests.send_request(request, false).expect("it is open");
            for part in body.chunks(piece) {
                // The other side may have seen enough.
                drop(stream.send_data(Bytes::copy_from_slice(part), false));
            }
            drop(stream.send_data(Bytes::new(), true));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = connection => {}
            () = sending => {}
        }
    };
    let memory = Memory::new(1 << 20);
    let receiving = async {
        let opening = ServerConnection::open(far, 1 << 16, 1 << 16, 1);
        let mut connection = opening.await.expect("the client is there");
        let (request, _respond) = connection.accept().await.expect("there is a call").expect("it is whole");
        let budget = memory.connection(1 << 20);
        let mut incoming =
            Incoming::<StreamRequest>::new(request.into_body(), encoding, MAX_MESSAGE).within(budget.clone());
        let reading = async {
            let mut messages = Vec::new();
            loop {
                match poll_fn(|cx| incoming.poll_message(cx)).await {
                    None => return (messages, false),
                    Some(Err(_)) => return (messages, true),
                    Some(Ok(message)) => messages.push(StreamRequest {
                        payload: Bytes::copy_from_slice(&message.payload),
                        frame_type: message.frame_type,
                    }),
                }
            }
        };
        let read = tokio::select! {
            read = reading => read,
            _ = connection.accept() => unreachable!("there is one call"),
        };
        drop(incoming);
        assert_eq!(budget.held_bytes(), 0, "all memory is given back");
        read
    };
    tokio::select! {
        read = receiving => read,
        () = sending => unreachable!("the client goes on until all is read"),
    }
}

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (piece, encoding, body) = input;
    let encoding = [None, Some(MessageEncoding::Gzip), Some(MessageEncoding::Deflate)][usize::from(encoding % 3)];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let whole = runtime.block_on(received(body, usize::MAX, encoding));
    let pieces = runtime.block_on(received(body, usize::from(piece.max(1)), encoding));
    assert_eq!(whole, pieces, "where it is split changes nothing");
    assert!(whole.0.iter().all(|message| message.payload.len() <= MAX_MESSAGE));
});
