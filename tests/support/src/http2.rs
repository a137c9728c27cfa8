//! HTTP/2 by hand (RFC 9113): frames that no library would send.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{DEADLINE, Served};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field with a literal name that is not kept, both parts as they are.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

/// The header block of a call, with this field as its authority.
pub fn block(path: &str, authority: &[u8]) -> Vec<u8> {
    [
        &[0x83, 0x86][..], // :method POST, :scheme http
        &field(":path", path),
        authority,
        &field("content-type", "application/grpc"),
        &field("te", "trailers"),
    ]
    .concat()
}

/// A connection to a served session.
pub struct Connection(UnixStream);

/// A frame that came.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Connection {
    pub async fn open(served: &Served) -> Self {
        let mut socket = UnixStream::connect(served.folder.path().join("socket")).await.unwrap();
        socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        socket.write_all(&frame(4, 0, 0, &[])).await.unwrap();
        Self(socket)
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Sends the bytes again and again, until the exporter ends the connection: the reason that it
    /// gives, if it gives one.
    pub async fn flood(self, bytes: &[u8], most: usize) -> Option<u32> {
        let (mut reader, mut writer) = self.0.into_split();
        let bytes = bytes.to_vec();
        let writing = tokio::spawn(async move {
            for _ in 0..most {
                if writer.write_all(&bytes).await.is_err() {
                    return true;
                }
            }
            // What is on its way is read before the end of the reading shows.
            std::future::pending().await
        });
        let reading = async {
            loop {
                let mut header = [0; 9];
                if reader.read_exact(&mut header).await.is_err() {
                    return None;
                }
                let mut payload =
                    vec![0; u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize];
                if reader.read_exact(&mut payload).await.is_err() {
                    return None;
                }
                if header[3] == GOAWAY {
                    return Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
                }
            }
        };
        let reason =
            tokio::time::timeout(DEADLINE, reading).await.expect("the connection is ended");
        writing.abort();
        reason
    }

    /// The next frame.
    pub async fn next(&mut self) -> Frame {
        let reading = async {
            let mut header = [0; 9];
            self.0.read_exact(&mut header).await.unwrap();
            let [a, b, c, kind, _, stream @ ..] = header;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.0.read_exact(&mut payload).await.unwrap();
            Frame { kind, stream: u32::from_be_bytes(stream), payload }
        };
        tokio::time::timeout(DEADLINE, reading).await.expect("a frame in time")
    }

    /// The next frame of that kind; none may say that the connection ends.
    pub async fn next_of(&mut self, kind: u8, stream: u32) -> Frame {
        loop {
            let frame = self.next().await;
            assert_ne!(frame.kind, GOAWAY, "{}", String::from_utf8_lossy(&frame.payload));
            if (frame.kind, frame.stream) == (kind, stream) {
                return frame;
            }
        }
    }
}
