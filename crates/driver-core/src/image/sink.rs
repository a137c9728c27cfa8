//! The destination of an image that is read back: a file that appears when it is complete, or a
//! writer.

use super::encoding::Encoding;
use super::progress::{Meter, Observer, Progress};
use super::remote::{BoxWriter, ImageRequest, support};
use super::target_writer::TargetWriter;
use crate::blocking;
use crate::error::{Error, Result, ResultExt};
use bytes::Bytes;
use jumpstarter_files::{Opened, Target, Turn};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;

/// How often a named pipe is checked for a reader.
const PIPE_INTERVAL: Duration = Duration::from_millis(50);

/// Takes the bytes of a dumped image.
///
/// A driver calls [`write`](Self::write) until the image ends, then [`finish`](Self::finish).
/// Dropping the sink earlier aborts: a file at the path keeps its old content, and a writer is
/// dropped without a shutdown.
///
/// A path may name anything that can be written to: a file, a pipe, a device. A file that cannot be
/// replaced is written in place, and holds a part of the image if the sink is dropped early: see
/// [`open`](Self::open).
pub struct ImageSink {
    name: String,
    path: Option<PathBuf>,
    state: State,
    observers: Vec<Observer>,
    meter: Option<Meter>,
    encoding: Option<Encoding>,
}

enum State {
    Unopened(PathBuf),
    File(Target),
    Request(ImageRequest),
    Writer(BoxWriter),
    /// A write failed or was cancelled halfway: its effect is unknown.
    Broken,
}

impl ImageSink {
    fn new(name: String, state: State) -> Self {
        Self { name, path: None, state, observers: Vec::new(), meter: None, encoding: None }
    }

    /// A path: a file is replaced when everything has arrived; a pipe or device is written.
    pub fn path(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let named = Self::new(path.display().to_string(), State::Unopened(path.clone()));
        Self { path: Some(path), ..named }
    }

    /// An `http` or `https` URL to which the driver's machine sends the image with PUT: see
    /// [`ImageRequest`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for another URL.
    pub fn url(url: impl Into<String>) -> Result<Self> {
        ImageRequest::new(url).map(Self::request)
    }

    /// The target of a PUT request.
    pub fn request(request: ImageRequest) -> Self {
        Self::new(request.to_string(), State::Request(request))
    }

    /// Any writer; it is shut down when everything has arrived.
    pub fn writer(writer: impl AsyncWrite + Send + 'static) -> Self {
        Self::new("the receiver".to_owned(), State::Writer(Box::pin(writer)))
    }

    /// Compresses the image; for a remote driver before the transfer.
    #[must_use]
    pub fn with_encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = Some(encoding);
        self
    }

    /// The wanted compression, if any.
    pub fn encoding(&self) -> Option<Encoding> {
        self.encoding
    }

    /// Takes the bytes unchanged: for callers that have compressed them.
    #[must_use]
    pub fn without_encoding(mut self) -> Self {
        self.encoding = None;
        self
    }

    /// The request, if the sink is one.
    pub fn as_request(&self) -> Option<&ImageRequest> {
        match &self.state {
            State::Request(request) => Some(request),
            _ => None,
        }
    }

    /// Adds an `observer` of the progress: notified at most 20 times a second, and once at the end.
    ///
    /// It is called from any thread and must not block.
    #[must_use]
    pub fn with_observer(mut self, observer: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// The callbacks for the progress.
    pub fn observers(&self) -> Vec<Observer> {
        self.observers.clone()
    }

    /// The path, if the sink has one and takes the bytes unchanged.
    pub fn local_path(&self) -> Option<&Path> {
        self.path.as_deref().filter(|_| self.encoding.is_none())
    }

    /// Opens the path, so that an unusable one is refused before an image is read. Waits for the
    /// reader of a named pipe. Without this call the first write opens it. Cancelling leaves the
    /// sink unchanged.
    ///
    /// # Errors
    /// The file system's errors; [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a
    /// folder or a socket.
    pub async fn open(&mut self) -> Result<()> {
        let State::Unopened(path) = &self.state else { return Ok(()) };
        let length =
            self.meter.as_ref().and_then(Meter::total_bytes).filter(|_| self.encoding.is_none());
        self.state = loop {
            let path = path.clone();
            match blocking(move || Ok(Target::open(&path, length)?)).await? {
                Opened::Target(target) => break State::File(target),
                Opened::Pipe(pipe) => {
                    break State::Writer(Box::pin(pipe::Sender::from_file(pipe)?));
                }
                Opened::NoReader => tokio::time::sleep(PIPE_INTERVAL).await,
            }
        };
        if let Some(why) = self.in_place() {
            tracing::warn!("{} is written in place: {why}", self.name);
        }
        Ok(())
    }

    /// Why an opened file is overwritten instead of replaced, if it is.
    pub fn in_place(&self) -> Option<&str> {
        match &self.state {
            State::File(target) => target.in_place(),
            _ => None,
        }
    }

    /// For drivers: announces the total before the first byte, if it is known.
    pub fn announce(&mut self, total_bytes: Option<u64>) {
        self.meter = Some(Meter::new(self.observers.clone(), total_bytes));
    }

    /// For drivers: writes all of `bytes`. Cancelling aborts the sink.
    ///
    /// # Errors
    /// The errors of the disk or the receiver, [`Aborted`](crate::ErrorKind::Aborted) after an
    /// earlier failure, [`Unimplemented`](crate::ErrorKind::Unimplemented) if nothing in this
    /// program sends to URLs or compresses.
    pub async fn write(&mut self, bytes: impl Into<Bytes>) -> Result<()> {
        let bytes = bytes.into();
        let length = bytes.len() as u64;
        let doing = format!("writing {}", self.name);
        self.prepare().await.context(&doing)?;
        let state = match std::mem::replace(&mut self.state, State::Broken) {
            State::File(target) => {
                State::File(blocking(move || write(target, &bytes)).await.context(doing)?)
            }
            State::Writer(mut writer) => {
                writer.write_all(&bytes).await.context(doing)?;
                State::Writer(writer)
            }
            State::Unopened(_) | State::Request(_) | State::Broken => return Err(self.broken()),
        };
        self.state = state;
        self.meter.get_or_insert_with(|| Meter::new(self.observers.clone(), None)).add(length);
        Ok(())
    }

    /// For drivers: completes the image; the file takes its name, the writer is shut down.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn finish(mut self) -> Result<()> {
        let doing = format!("writing {}", self.name);
        self.prepare().await.context(&doing)?;
        match std::mem::replace(&mut self.state, State::Broken) {
            State::File(target) => {
                let turn = Turn::default();
                let _cancel = turn.guard();
                blocking(move || Ok(target.commit(&turn)?)).await.context(doing)?;
            }
            State::Writer(mut writer) => writer.shutdown().await.context(doing)?,
            State::Unopened(_) | State::Request(_) | State::Broken => return Err(self.broken()),
        }
        self.meter.get_or_insert_with(|| Meter::new(self.observers.clone(), None)).finish();
        Ok(())
    }

    /// Opens the target if needed, and puts the encoder in front of it.
    async fn prepare(&mut self) -> Result<()> {
        self.open().await?;
        if let State::Request(request) = &self.state {
            let upload = (support("send images to URLs")?.upload)(request.clone())?;
            self.state = State::Writer(upload);
        }
        let Some(encoding) = self.encoding.take() else { return Ok(()) };
        let encode = support("compress images")?.encode;
        self.state = match std::mem::replace(&mut self.state, State::Broken) {
            State::File(target) => {
                State::Writer(encode(encoding, Box::pin(TargetWriter::new(target))))
            }
            State::Writer(writer) => State::Writer(encode(encoding, writer)),
            other => other,
        };
        Ok(())
    }

    fn broken(&self) -> Error {
        Error::new(
            crate::ErrorKind::Aborted,
            format!("writing {}: an earlier write did not end", self.name),
        )
    }
}

impl fmt::Debug for ImageSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageSink")
            .field("name", &self.name)
            .field("meter", &self.meter)
            .finish_non_exhaustive()
    }
}

/// A failed target is cleaned up here, where it may block.
fn write(mut target: Target, bytes: &[u8]) -> Result<Target> {
    match target.write(bytes) {
        Ok(()) => Ok(target),
        Err(error) => {
            target.discard();
            Err(error.into())
        }
    }
}
