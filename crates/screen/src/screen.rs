//! A client of a VNC server.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use jumpstarter_driver_core::channel::ChannelIo;
use jumpstarter_driver_core::{Channel, Error, Result, ResultExt, Secret};
use tokio::io::{AsyncRead, AsyncWriteExt, BufReader, ReadBuf, WriteHalf};
use tokio::time::timeout;

use crate::handshake::shake_hands;
use crate::picture::Picture;
use crate::updates::{Frame, update};
use crate::zrle::Zrle;

/// How long the beginning of a connection may take.
const GREETING_LIMIT: Duration = Duration::from_secs(20);
/// How long a picture may take.
const PICTURE_LIMIT: Duration = Duration::from_secs(60);

/// A connection to a VNC server, which takes pictures of its screen. Others may look at the same
/// time.
///
/// Pitfall: a screen that nothing has drawn yet is a picture as well. Look again until what is
/// waited for is there.
pub struct Screen {
    server: Server,
    name: String,
    frame: Frame,
    zrle: Zrle,
    /// Whether a picture was interrupted: what the server sent of it is in the way.
    is_torn: bool,
}

impl Screen {
    /// Begins a connection. The password, if the server asks for one, is VNC's own: eight bytes
    /// of it count.
    ///
    /// # Errors
    /// `Unauthenticated` if the server wants a password, or another one; `Unimplemented` for other
    /// logins; `FailedPrecondition` if it is no VNC server; `Unavailable` if it refuses or the
    /// connection ends; `DeadlineExceeded` if it says nothing for 20 s;
    /// `ResourceExhausted` for a screen beyond 8K; `InvalidArgument` for a channel of datagrams.
    pub async fn open(channel: Channel, password: Option<&Secret>) -> Result<Self> {
        let (reader, writer) = tokio::io::split(channel.into_io()?);
        let mut server = Server { reader: BufReader::new(Endless(reader)), writer };
        let doing = "connecting to the screen";
        let shaking = shake_hands(&mut server, password);
        let greeting = within(GREETING_LIMIT, "greeting", shaking).await.context(doing)?;
        let frame = Frame::new(greeting.width, greeting.height).context(doing)?;
        Ok(Self { server, name: greeting.name, frame, zrle: Zrle::new(), is_torn: false })
    }

    /// What the server calls itself. It is foreign text.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes a picture of the whole screen as it is. Cancelling ends the connection's use.
    ///
    /// # Errors
    /// `Unavailable` if the connection ends, `DeadlineExceeded` if there is no picture within a
    /// minute, `DataLoss` if the server does not keep to the protocol, `FailedPrecondition` after
    /// any of them, and after a cancellation: open another connection then.
    pub async fn snapshot(&mut self) -> Result<Picture> {
        if std::mem::replace(&mut self.is_torn, true) {
            return Err(Error::failed_precondition("a picture before this one was interrupted")
                .with_hint("connect to the screen again"));
        }
        let looking = look(&mut self.server, &mut self.frame, &mut self.zrle);
        within(PICTURE_LIMIT, "picture", looking).await.context("looking at the screen")?;
        self.is_torn = false;
        let Frame { width, height, ref pixels, .. } = self.frame;
        Ok(Picture::new(width, height, pixels.clone()))
    }
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Screen({}x{})", self.frame.width, self.frame.height)
    }
}

/// The two directions of the connection.
pub(crate) struct Server {
    pub(crate) reader: BufReader<Endless>,
    pub(crate) writer: WriteHalf<ChannelIo>,
}

/// A stream whose end is an error: RFB has no good time for it.
pub(crate) struct Endless(tokio::io::ReadHalf<ChannelIo>);

impl AsyncRead for Endless {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.0).poll_read(context, buffer))?;
        let ended = buffer.filled().len() == before && buffer.remaining() > 0;
        Poll::Ready(match ended {
            true => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the VNC server ended the connection",
            )),
            false => Ok(()),
        })
    }
}

/// Asks for the whole screen until it is there. A new size comes before the pixels.
async fn look(server: &mut Server, frame: &mut Frame, zrle: &mut Zrle) -> Result<()> {
    frame.begin();
    loop {
        let mut request = vec![3, 0, 0, 0, 0, 0];
        request.extend_from_slice(&frame.width.to_be_bytes());
        request.extend_from_slice(&frame.height.to_be_bytes());
        server.writer.write_all(&request).await?;
        server.writer.flush().await?;
        update(&mut server.reader, frame, zrle).await?;
        if frame.is_complete() {
            return match frame.pixels.is_empty() {
                true => Err(Error::unavailable("the screen has no pixels")),
                false => Ok(()),
            };
        }
    }
}

async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    match timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(Error::deadline_exceeded(format!("no {what} within {limit:?}"))),
    }
}
