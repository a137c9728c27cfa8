//! A screen that is served by VNC (RFC 6143).

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const WIDTH: u16 = 16;
const HEIGHT: u16 = 8;
const NAME: &[u8] = b"peer";

/// Serves one client.
pub(super) async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(b"RFB 003.008\n").await?;
    stream.read_exact(&mut [0; 12]).await?;
    // One way to log in: none.
    stream.write_all(&[1, 1]).await?;
    stream.read_u8().await?;
    stream.write_all(&[0, 0, 0, 0]).await?;
    stream.read_u8().await?;
    let format = [32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0];
    let mut state = [WIDTH.to_be_bytes(), HEIGHT.to_be_bytes()].concat();
    state.extend(format);
    state.extend([0, 0, 0, NAME.len() as u8]);
    state.extend(NAME);
    stream.write_all(&state).await?;
    loop {
        // The length of each message of a client behind its first byte.
        let length = match stream.read_u8().await? {
            // Encodings.
            2 => {
                stream.read_u8().await?;
                usize::from(stream.read_u16().await?) * 4
            }
            0 => 19,
            3 => 9,
            4 => 7,
            5 => 5,
            _ => return Ok(()),
        };
        let mut message = vec![0; length];
        stream.read_exact(&mut message).await?;
        // A request of a picture, not of what has changed.
        if length == 9 && message[0] == 0 {
            let mut picture = vec![0, 0, 0, 1, 0, 0, 0, 0];
            picture.extend([WIDTH.to_be_bytes(), HEIGHT.to_be_bytes()].concat());
            picture.extend([0; 4]);
            picture.extend([7; WIDTH as usize * HEIGHT as usize * 4]);
            stream.write_all(&picture).await?;
        }
    }
}
