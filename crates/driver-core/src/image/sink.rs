//! Where an image that is read back goes: a file that appears when it is whole, or a writer.

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

/// A named pipe is looked at for a reader so often.
const PIPE_INTERVAL: Duration = Duration::from_millis(50);

/// Takes the bytes of a dumped image.
///
/// A driver calls [`write`](Self::write) until it has nothing more, then [`finish`](Self::finish).
/// Dropping the sink without that aborts: a file at the path is then as it was before, and a writer
/// is dropped without a shutdown.
///
/// A path may name whatever can be written to: a file, a pipe, a device. A file that cannot be
/// replaced is written in place, and then holds a part of the image when the sink is dropped early:
/// see [`open`](Self::open).
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
    /// A write failed or was cancelled in the middle: what came of it is not known.
    Broken,
}

impl ImageSink {
    fn new(name: String, state: State) -> Self {
        Self { name, path: None, state, observers: Vec::new(), meter: None, encoding: None }
    }

    /// What `path` names: a file, which is replaced when everything has arrived, or a pipe or
    /// device.
    pub fn path(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let named = Self::new(path.display().to_string(), State::Unopened(path.clone()));
        Self { path: Some(path), ..named }
    }

    /// The `http` or `https` URL to which it is sent with PUT, by the machine of the driver: see
    /// [`ImageRequest`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument): no such URL.
    pub fn url(url: impl Into<String>) -> Result<Self> {
        ImageRequest::new(url).map(Self::request)
    }

    /// What a PUT request takes.
    pub fn request(request: ImageRequest) -> Self {
        Self::new(request.to_string(), State::Request(request))
    }

    /// Any writer; it is shut down when everything has arrived.
    pub fn writer(writer: impl AsyncWrite + Send + 'static) -> Self {
        Self::new("the receiver".to_owned(), State::Writer(Box::pin(writer)))
    }

    /// Has the image compressed: on the way already, where the driver is elsewhere.
    #[must_use]
    pub fn with_encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = Some(encoding);
        self
    }

    /// How it is to be compressed.
    pub fn encoding(&self) -> Option<Encoding> {
        self.encoding
    }

    /// Takes the bytes as they come: for who has compressed them already.
    #[must_use]
    pub fn without_encoding(mut self) -> Self {
        self.encoding = None;
        self
    }

    /// The request, for a sink that is one.
    pub fn as_request(&self) -> Option<&ImageRequest> {
        match &self.state {
            State::Request(request) => Some(request),
            _ => None,
        }
    }

    /// Has `observer` told how much went through: at most 20 times a second, and once at the end.
    ///
    /// It is called from any thread and must not block.
    #[must_use]
    pub fn with_observer(mut self, observer: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// Who is told how much went through.
    pub fn observers(&self) -> Vec<Observer> {
        self.observers.clone()
    }

    /// The path, for a sink that has one and takes the bytes as they are.
    pub fn local_path(&self) -> Option<&Path> {
        self.path.as_deref().filter(|_| self.encoding.is_none())
    }

    /// Opens what a path names, so that what cannot be written to is refused before an image is
    /// read. Waits for the reader of a named pipe. Otherwise the first write does this.
    /// Cancelling leaves the sink as it was.
    ///
    /// # Errors
    /// Those of the file system; [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a
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

    /// For drivers: says how many bytes it will be, before the first one.
    pub fn announce(&mut self, total_bytes: Option<u64>) {
        self.meter = Some(Meter::new(self.observers.clone(), total_bytes));
    }

    /// For drivers: writes all of `bytes`. Cancelling aborts the sink.
    ///
    /// # Errors
    /// What the disk or the receiver fails with, [`Aborted`](crate::ErrorKind::Aborted) after an
    /// earlier failure, [`Unimplemented`](crate::ErrorKind::Unimplemented) where nothing here
    /// sends to URLs or compresses.
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

    /// For drivers: everything was written; the file takes its name, the writer is shut down.
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

    /// Opens what is not open, and puts the encoder in front of it.
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

/// What fails is tidied up here, where it may block.
fn write(mut target: Target, bytes: &[u8]) -> Result<Target> {
    match target.write(bytes) {
        Ok(()) => Ok(target),
        Err(error) => {
            target.discard();
            Err(error.into())
        }
    }
}
