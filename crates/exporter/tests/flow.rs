//! Flow control: what is not read holds up itself, and nothing else.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{Device, Framing};
use jumpstarter_driver_testkit::eventually;
use jumpstarter_test_support::http2::{
    self, Connection, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, block, field,
};
use jumpstarter_test_support::{DEADLINE, end, frame, serve_device, serve_guarded};
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;

/// Its power works; a connection is what the test makes of it.
#[derive(Default)]
struct Board {
    /// The driver's ends of the connections.
    far: Arc<Mutex<Vec<Channel>>>,
    connected: Arc<Notify>,
    framing: Option<Framing>,
    /// A connection waits for this one.
    gate: Option<Arc<Notify>>,
}

impl Driver for Board {
    interfaces!(Power, Network);
}

#[async_trait]
impl Power for Board {
    async fn on(&self) -> Result<()> {
        Ok(())
    }
    async fn off(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Network for Board {
    async fn connect(&self) -> Result<Channel> {
        if let Some(gate) = &self.gate {
            gate.notified().await;
        }
        let (near, far) = Channel::pair(self.framing.unwrap_or(Framing::Bytes));
        self.far.lock().unwrap().push(far);
        self.connected.notify_one();
        Ok(near)
    }
}

impl Board {
    fn parts(&self) -> (Arc<Mutex<Vec<Channel>>>, Arc<Notify>) {
        (self.far.clone(), self.connected.clone())
    }
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it ends in time")
}

#[tokio::test]
async fn streams_that_nobody_reads_hold_up_no_call() {
    let board = Board::default();
    let (far, _) = board.parts();
    let served = serve_device(Device::of_driver(board)).await;
    let mut client = served.client().await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        let stream = client.connect("").await;
        let sender = stream.sender.clone();
        let chunk = bytes::Bytes::from(vec![7; 1 << 16]);
        // Until its own window is full: the driver reads none of it.
        while tokio::time::timeout(Duration::from_secs(1), sender.send(frame(chunk.clone())))
            .await
            .is_ok()
        {}
        streams.push(stream);
        client.call("", "off", &[]).await.unwrap();
    }
    eventually("all are connected", || far.lock().unwrap().len() == 8).await;
    drop((client, streams));
    served.shut_down().await;
}

/// More than would fit if each could send as much as a single one.
#[tokio::test]
async fn hundreds_of_streams_that_nobody_reads_hold_up_no_call() {
    const STREAMS: usize = 200;
    let board = Board::default();
    let (far, connected) = board.parts();
    let served = serve_device(Device::of_driver(board)).await;
    let mut client = served.client().await;
    let mut streams = Vec::new();
    let mut writers = Vec::new();
    for _ in 0..STREAMS {
        let stream = client.connect("").await;
        in_time(connected.notified()).await;
        let sender = stream.sender.clone();
        let chunk = bytes::Bytes::from(vec![7; 1 << 16]);
        writers.push(tokio::spawn(async move {
            while sender.send(frame(chunk.clone())).await.is_ok() {}
        }));
        streams.push(stream);
    }
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        in_time(client.call("", "off", &[])).await.unwrap();
    }
    // A stream that is read goes on as well, with as much as there is.
    let open = client.connect("").await;
    in_time(connected.notified()).await;
    let mut read = far.lock().unwrap().pop().unwrap();
    for _ in 0..100 {
        in_time(open.sender.send(frame(vec![1; 200_000]))).await.unwrap();
        assert_eq!(in_time(read.receive()).await.unwrap().unwrap().len(), 200_000);
    }
    writers.iter().for_each(tokio::task::JoinHandle::abort);
    drop((client, streams, open));
    served.shut_down().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_may_write() {
    let board = Board::default();
    let (far, connected) = board.parts();
    let served = serve_device(Device::of_driver(board)).await;
    let mut client = served.client().await;
    let stream = client.connect("").await;
    in_time(connected.notified()).await;
    let (mut reader, mut writer) = far.lock().unwrap().pop().unwrap().split();
    // More than fits anywhere between here and there, which the client leaves where it is.
    let flood = tokio::spawn(async move { while writer.send(vec![1; 1 << 16]).await.is_ok() {} });
    let sent = 64 << 20;
    let writing = async {
        for _ in 0..sent >> 16 {
            stream.sender.send(frame(vec![2; 1 << 16])).await.unwrap();
        }
        stream.sender.send(end()).await.unwrap();
    };
    let reading = async {
        let mut received = 0;
        while let Some(payload) = reader.receive().await.unwrap() {
            received += payload.len();
        }
        received
    };
    let ((), received) = in_time(async { tokio::join!(writing, reading) }).await;
    assert_eq!(received, sent);

    // Its window is full, so it cannot be notified; the driver's connection ends all the same.
    served.session.shut_down();
    in_time(flood).await.unwrap();
    drop((client, stream));
    served.shut_down().await;
}

#[tokio::test]
async fn datagrams_and_empty_frames_arrive_as_they_were_sent() {
    let board = Board { framing: Some(Framing::Datagrams), ..Board::default() };
    let (far, connected) = board.parts();
    let served = serve_device(Device::of_driver(board)).await;
    let mut client = served.client().await;
    let mut stream = client.connect("").await;
    in_time(connected.notified()).await;
    let mut far = far.lock().unwrap().pop().unwrap();
    let messages: Vec<Vec<u8>> =
        [0, 1, 0, 0, 2, 65_507, 300_000, 0, 3].map(|length| vec![length as u8; length]).into();
    for message in &messages {
        stream.sender.send(frame(message.clone())).await.unwrap();
        let arrived = in_time(far.receive()).await.unwrap().unwrap();
        assert!(arrived == *message, "{} bytes sent, {} arrived", message.len(), arrived.len());
    }
    // In one go, too: none is merged with the next.
    let all = messages.clone();
    let sending = tokio::spawn(async move {
        for message in all {
            far.send(message).await.unwrap();
        }
        far
    });
    for message in &messages {
        assert!(
            stream.receive().await.unwrap().unwrap() == *message,
            "{} bytes sent",
            message.len()
        );
    }
    let mut far = in_time(sending).await.unwrap();
    // A half-close: the other direction goes on.
    stream.sender.send(end()).await.unwrap();
    assert_eq!(in_time(far.receive()).await.unwrap(), None);
    far.send("still here").await.unwrap();
    assert_eq!(stream.receive().await.unwrap().as_deref(), Some(&b"still here"[..]));
    far.finish().await.unwrap();
    assert_eq!(stream.receive().await.unwrap(), None);
    drop((client, stream));
    served.shut_down().await;
}

/// As the client in Python does where it only sends: it ends its process after its last byte, which
/// resets the stream.
#[tokio::test]
async fn what_a_client_sent_before_it_left_reaches_the_driver_however_early_it_left() {
    const ROUNDS: u32 = 20;
    let gate = Arc::new(Notify::new());
    let board = Board { gate: Some(gate.clone()), ..Board::default() };
    let (far, connected) = board.parts();
    let served = serve_device(Device::of_driver(board)).await;
    let mut client = served.client().await;
    let mut connection = Connection::open(&served).await;
    let request =
        serde_json::json!({"kind": "driver", "uuid": client.uuid(""), "method": "connect"});
    let head = [
        block("/jumpstarter.v1.RouterService/Stream", &field(":authority", "exporter")),
        field("request", &request.to_string()),
    ]
    .concat();
    let data = |payload| jumpstarter_protocol::encode(&payload).unwrap();
    for round in 0..ROUNDS {
        let stream = 2 * round + 1;
        connection.send(&http2::frame(HEADERS, END_HEADERS, stream, &head)).await;
        connection.next_of(HEADERS, stream).await;
        let early = round % 2 == 0;
        if !early {
            gate.notify_one();
            in_time(connected.notified()).await;
        }
        let last = [
            http2::frame(DATA, 0, stream, &data(frame("reboot"))),
            http2::frame(DATA, 0, stream, &data(frame("now"))),
            http2::frame(DATA, END_STREAM, stream, &data(end())),
            http2::frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]),
            http2::frame(PING, 0, 0, &[7; 8]),
        ];
        connection.send(&last.concat()).await;
        connection.next_of(PING, 0).await;
        client.call("", "off", &[]).await.unwrap();
        if early {
            gate.notify_one();
            in_time(connected.notified()).await;
        }
        let mut far = far.lock().unwrap().pop().unwrap();
        let mut received = Vec::new();
        while let Some(payload) = in_time(far.receive()).await.unwrap() {
            received.extend_from_slice(&payload);
        }
        assert_eq!(received, b"rebootnow", "round {round}");
    }
    drop((client, connection));
    served.shut_down().await;
}

#[tokio::test]
async fn dropping_the_server_cuts_every_connection_off() {
    let board = Board::default();
    let (far, connected) = board.parts();
    let served = serve_device(Device::of_driver(board)).await;
    let mut client = served.client().await;
    let mut stream = client.connect("").await;
    in_time(connected.notified()).await;
    let mut far = far.lock().unwrap().pop().unwrap();
    served.server.abort();
    stream.receive().await.unwrap_err();
    assert_eq!(
        in_time(far.receive()).await.unwrap(),
        None,
        "the driver's connection ended with it"
    );
    assert!(client.call("", "off", &[]).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_speaks_is_closed() {
    let served = serve_guarded(Device::of_driver(Board::default()), Default::default()).await;
    let mut silent =
        tokio::net::UnixStream::connect(served.folder.path().join("socket")).await.unwrap();
    let started = tokio::time::Instant::now();
    let read = silent.read(&mut [0; 64]).await;
    // The server may have said its part before.
    drop(read);
    while silent.read(&mut [0; 64]).await.is_ok_and(|length| length > 0) {}
    assert!(started.elapsed() <= Duration::from_secs(60));
    drop(silent);
    served.shut_down().await;
}
