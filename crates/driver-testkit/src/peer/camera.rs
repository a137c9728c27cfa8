//! A camera that serves MJPEG.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A JPEG file of 3 by 2 pixels, as far as its structure goes.
const PICTURE: &[u8] =
    &[0xff, 0xd8, 0xff, 0xc0, 0, 9, 8, 0, 2, 0, 3, 0, 0, 0xff, 0xda, 0, 2, 1, 2, 3, 0xff, 0xd9];
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\
    Content-Type: multipart/x-mixed-replace; boundary=x\r\n\r\n";
/// Between two pictures.
const PAUSE: Duration = Duration::from_millis(20);

/// Answers one request.
pub(super) async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut asked = Vec::new();
    while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut asked).await? == 0 {
            return Ok(());
        }
    }
    if !asked.starts_with(b"GET /stream ") {
        let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return stream.write_all(answer).await;
    }
    stream.write_all(HEAD).await?;
    loop {
        let part = [b"--x\r\nContent-Type: image/jpeg\r\n\r\n", PICTURE, b"\r\n"].concat();
        stream.write_all(&part).await?;
        tokio::time::sleep(PAUSE).await;
    }
}
