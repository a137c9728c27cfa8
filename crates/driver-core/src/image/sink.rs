//! Where an image that is read back goes: a file that appears when it is whole, or a writer.

use super::encoding::Encoding;
use super::progress::{Meter, Observer, Progress};
use super::remote::{BoxWriter, ImageRequest, support};
use super::staged_writer::StagedWriter;
use crate::error::{Error, Result, ResultExt};
use bytes::Bytes;
use jumpstarter_files::StagedFile;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Takes the bytes of a dumped image.
///
/// A driver calls [`write`](Self::write) until it has nothing more, then [`finish`](Self::finish). Dropping the sink
/// without that aborts: a file at the path is then as it was before, and a writer is dropped without a shutdown.
pub struct ImageSink {
    name: String,
    state: State,
    observers: Vec<Observer>,
    meter: Option<Meter>,
    encoding: Option<Encoding>,
}

enum State {
    Unopened(PathBuf),
    File(StagedFile),
    Request(ImageRequest),
    Writer(BoxWriter),
    /// A write failed or was cancelled in the middle: what came of it is not known.
    Broken,
}

impl ImageSink {
    fn new(name: String, state: State) -> Self {
        Self { name, state, observers: Vec::new(), meter: None, encoding: None }
    }

    /// The file at `path`, which is replaced when everything has arrived.
    pub fn path(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self::new(path.display().to_string(), State::Unopened(path))
    }

    /// The `http` or `https` URL to which it is sent with PUT, by the machine of the driver: see [`ImageRequest`].
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

    /// The file, for a sink that is one and takes the bytes as they are.
    pub fn local_path(&self) -> Option<&Path> {
        match &self.state {
            _ if self.encoding.is_some() => None,
            State::Unopened(path) => Some(path),
            State::File(file) => Some(file.destination()),
            State::Request(_) | State::Writer(_) | State::Broken => None,
        }
    }

    /// For drivers: says how many bytes it will be, before the first one.
    pub fn announce(&mut self, total_bytes: Option<u64>) {
        self.meter = Some(Meter::new(self.observers.clone(), total_bytes));
    }

    /// For drivers: writes all of `bytes`. Cancelling aborts the sink.
    ///
    /// # Errors
    /// What the disk or the receiver fails with, [`Aborted`](crate::ErrorKind::Aborted) after an earlier failure,
    /// [`Unimplemented`](crate::ErrorKind::Unimplemented) where nothing here sends to URLs or compresses.
    pub async fn write(&mut self, bytes: impl Into<Bytes>) -> Result<()> {
        let bytes = bytes.into();
        let length = bytes.len() as u64;
        self.prepare()?;
        let doing = || format!("writing {}", self.name);
        let state = match std::mem::replace(&mut self.state, State::Broken) {
            State::Unopened(path) => State::File(
                blocking(move || write_file(StagedFile::create(&path)?, &bytes)).await.with_context(doing)?,
            ),
            State::File(file) => {
                State::File(blocking(move || write_file(file, &bytes)).await.with_context(doing)?)
            }
            State::Writer(mut writer) => {
                writer.write_all(&bytes).await.with_context(doing)?;
                State::Writer(writer)
            }
            State::Request(_) | State::Broken => return Err(self.broken()),
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
        self.prepare()?;
        let doing = || format!("writing {}", self.name);
        match std::mem::replace(&mut self.state, State::Broken) {
            State::Unopened(path) => {
                blocking(move || Ok(StagedFile::create(&path)?.commit()?)).await.with_context(doing)?
            }
            State::File(file) => blocking(move || Ok(file.commit()?)).await.with_context(doing)?,
            State::Writer(mut writer) => writer.shutdown().await.with_context(doing)?,
            State::Request(_) | State::Broken => return Err(self.broken()),
        }
        self.meter.get_or_insert_with(|| Meter::new(self.observers.clone(), None)).finish();
        Ok(())
    }

    /// Opens what is not written to as it is: an upload, and anything through an encoder.
    fn prepare(&mut self) -> Result<()> {
        if let State::Request(request) = &self.state {
            let upload = (support("send images to URLs")?.upload)(request.clone())?;
            self.state = State::Writer(upload);
        }
        let Some(encoding) = self.encoding.take() else { return Ok(()) };
        let encode = support("compress images")?.encode;
        self.state = match std::mem::replace(&mut self.state, State::Broken) {
            State::Unopened(path) => {
                let writer = StagedWriter::new(StagedFile::create(&path)?)?;
                State::Writer(encode(encoding, Box::pin(writer)))
            }
            State::Writer(writer) => State::Writer(encode(encoding, writer)),
            other => other,
        };
        Ok(())
    }

    fn broken(&self) -> Error {
        Error::new(crate::ErrorKind::Aborted, format!("writing {}: an earlier write did not end", self.name))
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

fn write_file(staged: StagedFile, bytes: &[u8]) -> Result<StagedFile> {
    staged.file().write_all(bytes)?;
    Ok(staged)
}

/// Runs `work` where it may block. If the caller goes away, what `work` returns is dropped, a staged file with it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::internal("a blocking task ended without a result").with_source(error)),
    }
}
