//! Cases of screens: what the driver says, and what its child `tcp` leads to.

use std::time::Duration;

use jumpstarter_driver_core::Network;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::case::{MustSucceed, Outcome, ensure};
use crate::instance::Instance;

/// How long a picture may take.
const PICTURE_WITHIN: Duration = Duration::from_secs(20);
/// RFC 6143, 7.1.1.
const VERSION: &[u8; 12] = b"RFB 003.008\n";

/// VNC-1: `get_default_encrypt` answers the same each time, also after a reset.
pub(crate) async fn answer_is_stable(instance: &Instance) -> Outcome {
    let mut answers = Vec::new();
    for _ in 0..2 {
        let reply = instance.invoke("get_default_encrypt", vec![]).await;
        let answer = reply.and_then(|reply| reply.into_value::<bool>());
        answers.push(answer.must("`get_default_encrypt`")?);
        instance.driver().reset().await.must("a reset")?;
    }
    ensure!(answers[0] == answers[1], "`get_default_encrypt` answers {answers:?}");
    Ok(())
}

/// VNC-2: the child `tcp` leads to a VNC server, whose picture has the size that it states and
/// comes in time.
pub(crate) async fn picture_has_the_stated_size(instance: &Instance) -> Outcome {
    instance.doing("taking a picture");
    let taken = timeout(PICTURE_WITHIN, async {
        let (mut io, width, height) = greet(instance).await?;
        let pixels = picture(&mut io, width, height).await.map_err(told)?;
        let stated = usize::from(width) * usize::from(height);
        ensure!(pixels == stated, "a picture has {pixels} pixels; {width} by {height} are stated");
        Ok(())
    });
    taken.await.map_err(|_| format!("no picture within {PICTURE_WITHIN:?}"))?
}

fn told(error: std::io::Error) -> String {
    format!("the VNC server: {error}")
}

async fn say(io: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    io.write_all(bytes).await?;
    io.flush().await
}

/// A connection without a password, and the size that the server states.
async fn greet(
    instance: &Instance,
) -> Result<(impl AsyncRead + AsyncWrite + Send + Unpin + use<>, u16, u16), String> {
    let network = instance.child::<dyn Network>("tcp")?;
    let channel = network.connect().await.must("connecting to the screen")?;
    let mut io = channel.into_io().must("the connection to the screen")?;
    let mut version = [0; VERSION.len()];
    io.read_exact(&mut version).await.map_err(told)?;
    ensure!(version.starts_with(b"RFB "), "the child `tcp` leads to no VNC server");
    say(&mut io, VERSION).await.map_err(told)?;
    let kinds = io.read_u8().await.map_err(told)?;
    let mut offered = vec![0; usize::from(kinds)];
    io.read_exact(&mut offered).await.map_err(told)?;
    ensure!(offered.contains(&1), "the screen has a password");
    say(&mut io, &[1]).await.map_err(told)?;
    ensure!(io.read_u32().await.map_err(told)? == 0, "the VNC server refuses a client");
    // Others may look as well.
    say(&mut io, &[1]).await.map_err(told)?;
    let width = io.read_u16().await.map_err(told)?;
    let height = io.read_u16().await.map_err(told)?;
    let mut format = [0; 16];
    io.read_exact(&mut format).await.map_err(told)?;
    let length = io.read_u32().await.map_err(told)?;
    let mut name = Vec::new();
    (&mut io).take(length.into()).read_to_end(&mut name).await.map_err(told)?;
    ensure!(width > 0 && height > 0, "the screen states {width} by {height} pixels");
    Ok((io, width, height))
}

/// Asks for the whole picture as raw pixels of 32 bits, and counts them.
async fn picture(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    width: u16,
    height: u16,
) -> std::io::Result<usize> {
    let format = [0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0];
    let raw_only = [2, 0, 0, 1, 0, 0, 0, 0];
    let mut request = [&format[..], &raw_only, &[3, 0, 0, 0, 0, 0]].concat();
    request.extend(width.to_be_bytes());
    request.extend(height.to_be_bytes());
    say(io, &request).await?;
    let (mut pixels, wanted) = (0, usize::from(width) * usize::from(height));
    while pixels < wanted {
        match io.read_u8().await? {
            0 => {}
            // A bell.
            2 => continue,
            // Text of a clipboard.
            3 => {
                io.read_exact(&mut [0; 3]).await?;
                let length = io.read_u32().await?;
                let mut rest = Vec::new();
                (&mut *io).take(length.into()).read_to_end(&mut rest).await?;
                continue;
            }
            message => return Err(std::io::Error::other(format!("message {message}"))),
        }
        io.read_u8().await?;
        for _ in 0..io.read_u16().await? {
            io.read_u32().await?;
            let (columns, rows) = (io.read_u16().await?, io.read_u16().await?);
            if io.read_i32().await? != 0 {
                return Err(std::io::Error::other("an encoding that was not asked for"));
            }
            let area = usize::from(columns) * usize::from(rows);
            let mut bytes = Vec::new();
            let read = (&mut *io).take(area as u64 * 4).read_to_end(&mut bytes).await?;
            if read < area * 4 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            pixels += area;
        }
    }
    Ok(pixels)
}
