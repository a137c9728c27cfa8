//! The beginning of a connection: version, authentication, the screen's size.

use jumpstarter_driver_core::{Error, Result, Secret};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use crate::password::answer;
use crate::screen::Server;

/// What a server may say in a text.
const MAX_TEXT: u64 = 4 << 10;
/// The ways to authenticate that are known.
const NONE: u8 = 1;
const PASSWORD: u8 = 2;

/// 32 bits a pixel, of them 24 used; little endian; red, green and blue from the top.
const FORMAT: [u8; 16] = [32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0];

/// The encodings that are understood, the best first: ZRLE, a copy, raw, and the pretended one
/// that is a new size of the screen.
const ENCODINGS: [i32; 4] = [ZRLE, COPY, RAW, SIZE];
pub(crate) const RAW: i32 = 0;
pub(crate) const COPY: i32 = 1;
pub(crate) const ZRLE: i32 = 16;
pub(crate) const SIZE: i32 = -223;

/// What a server says of its screen.
#[derive(Debug)]
pub(crate) struct Greeting {
    pub(crate) width: u16,
    pub(crate) height: u16,
    pub(crate) name: String,
}

/// Shakes hands: afterwards the server waits for requests.
pub(crate) async fn shake_hands(
    server: &mut Server,
    password: Option<&Secret>,
) -> Result<Greeting> {
    let minor = version(server).await?;
    authenticate(server, minor, password).await?;
    let Server { reader, writer } = server;
    // Others may look, too.
    send(writer, &[1]).await?;
    let (width, height) = (reader.read_u16().await?, reader.read_u16().await?);
    skip(reader, FORMAT.len() as u64).await?;
    let name = text(reader).await?;
    let mut wishes = vec![0; 4];
    wishes.extend_from_slice(&FORMAT);
    wishes.extend_from_slice(&[2, 0, 0, ENCODINGS.len() as u8]);
    wishes.extend(ENCODINGS.iter().flat_map(|encoding| encoding.to_be_bytes()));
    send(writer, &wishes).await?;
    Ok(Greeting { width, height, name })
}

async fn send(writer: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8]) -> Result<()> {
    writer.write_all(bytes).await?;
    Ok(writer.flush().await?)
}

/// Agrees on a version, and returns the part behind the dot: 3, 7 or 8.
async fn version(server: &mut Server) -> Result<u8> {
    let mut offer = [0; 12];
    server.reader.read_exact(&mut offer).await?;
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<u16>().ok();
    let offered = match &offer {
        [b'R', b'F', b'B', b' ', major @ .., b'\n'] if major[3] == b'.' => {
            number(&major[..3]).zip(number(&major[4..]))
        }
        _ => None,
    };
    let minor = match offered {
        Some((3, ..7)) => 3,
        Some((3, 7)) => 7,
        Some((3.., _)) => 8,
        _ => {
            let message = "it does not speak VNC: its first words are no version of RFB";
            return Err(Error::failed_precondition(message)
                .with_hint("check the endpoint's address: VNC is at port 5900 and above"));
        }
    };
    send(&mut server.writer, format!("RFB 003.00{minor}\n").as_bytes()).await?;
    Ok(minor)
}

async fn authenticate(
    Server { reader, writer }: &mut Server,
    minor: u8,
    password: Option<&Secret>,
) -> Result<()> {
    let offered = match minor {
        // The server decides.
        3 => match reader.read_u32().await? {
            0 => Vec::new(),
            one => vec![u8::try_from(one).unwrap_or(u8::MAX)],
        },
        _ => {
            let mut offered = vec![0; reader.read_u8().await?.into()];
            reader.read_exact(&mut offered).await?;
            offered
        }
    };
    if offered.is_empty() {
        let why = text(reader).await?;
        return Err(Error::unavailable(format!("the VNC server refuses the connection: {why}")));
    }
    let chosen = match (offered.contains(&NONE), offered.contains(&PASSWORD), password) {
        (_, true, Some(_)) => PASSWORD,
        (true, ..) => NONE,
        (_, true, None) => {
            return Err(Error::unauthenticated("the VNC server asks for a password")
                .with_hint("give it one; `j` takes it from $JMP_VNC_PASSWORD"));
        }
        _ => {
            let message = format!("the VNC server asks for a login of another kind ({offered:?})");
            return Err(Error::unimplemented(message)
                .with_hint("set up the server for a VNC password, or for none"));
        }
    };
    if minor != 3 {
        send(writer, &[chosen]).await?;
    }
    if let (PASSWORD, Some(password)) = (chosen, password) {
        let mut challenge = [0; 16];
        reader.read_exact(&mut challenge).await?;
        send(writer, &answer(password, challenge)).await?;
    } else if minor != 8 {
        return Ok(());
    }
    if reader.read_u32().await? == 0 {
        return Ok(());
    }
    let why = if minor == 8 { text(reader).await? } else { String::new() };
    let message = match why.as_str() {
        "" => "the VNC server refuses the login".to_owned(),
        why => format!("the VNC server refuses the login: {why}"),
    };
    Err(Error::unauthenticated(message))
}

/// A text with its length before it. Of a long one the beginning is kept.
async fn text(io: &mut (impl AsyncRead + Unpin)) -> Result<String> {
    let length = u64::from(io.read_u32().await?);
    let mut kept = Vec::new();
    (&mut *io).take(length.min(MAX_TEXT)).read_to_end(&mut kept).await?;
    skip(io, length.saturating_sub(MAX_TEXT)).await?;
    Ok(String::from_utf8_lossy(&kept).into_owned())
}

/// Reads so many bytes, and drops them.
pub(crate) async fn skip(io: &mut (impl AsyncRead + Unpin), length: u64) -> Result<()> {
    tokio::io::copy(&mut io.take(length), &mut tokio::io::sink()).await?;
    Ok(())
}
