//! Where an image comes from: a file, a stream, a reader, or memory.

use super::encoding::Encoding;
use super::progress::{Observer, Progress};
use super::remote::{ImageRequest, support};
use super::stream::ImageStream;
use crate::blocking;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use bytes::Bytes;
use futures_core::Stream;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use rustix::fs::OFlags;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use tokio::io::AsyncRead;
use tokio::net::unix::pipe;
use tokio_util::io::ReaderStream;

/// Bytes asked of a file or reader at once.
const CHUNK: usize = 1024 * 1024;

/// An image to be flashed; read once, from its beginning.
///
/// Whoever flashes makes one and adds wishes ([`with_observer`](Self::with_observer),
/// [`expect_sha256`](Self::expect_sha256), [`report_sha256`](Self::report_sha256)). A driver hands
/// it to `jumpstarter_driver_flasher::write_image`, which honours all of them, or reads it itself
/// with [`open`](Self::open): that tells observers and checks the length, but refuses a source with
/// a digest wish, since nobody would check it. A driver that can check takes the wishes out first,
/// with [`take_wishes`](Self::take_wishes).
pub struct ImageSource {
    name: Option<String>,
    length: Option<u64>,
    origin: Origin,
    wishes: Wishes,
    encoding: Option<Encoding>,
}

enum Origin {
    Path(PathBuf),
    Bytes(Bytes),
    Request(ImageRequest),
    Stream(BoxStream<'static, io::Result<Bytes>>),
}

impl ImageSource {
    fn new(origin: Origin, length: Option<u64>) -> Self {
        Self { name: None, length, origin, wishes: Wishes::default(), encoding: None }
    }

    /// A file of this machine; opened when it is read, so a missing one is found then.
    pub fn path(path: impl Into<PathBuf>) -> Self {
        Self::new(Origin::Path(path.into()), None)
    }

    /// Bytes in memory.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let length = bytes.len() as u64;
        Self::new(Origin::Bytes(bytes), Some(length))
    }

    /// The file at an `http` or `https` URL, which the machine of the driver must reach: see
    /// [`ImageRequest`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`]: no such URL.
    pub fn url(url: impl Into<String>) -> Result<Self> {
        ImageRequest::new(url).map(Self::request)
    }

    /// What answers to a GET request.
    pub fn request(request: ImageRequest) -> Self {
        Self::new(Origin::Request(request), None)
    }

    /// What `reader` yields until its end; `length` in bytes if it is known, and then enforced.
    pub fn reader(reader: impl AsyncRead + Send + 'static, length: Option<u64>) -> Self {
        Self::stream(ReaderStream::with_capacity(reader, CHUNK), length)
    }

    /// What `stream` yields until its end; `length` in bytes if it is known, and then enforced.
    pub fn stream(
        stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        length: Option<u64>,
    ) -> Self {
        Self::new(Origin::Stream(stream.boxed()), length)
    }

    /// Says what to call the image in messages. A path has its file name without this.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Says how the bytes are compressed, where their signature does not tell; an exporter
    /// elsewhere then decompresses them so. In-process, drivers go by the signature.
    #[must_use]
    pub fn with_encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = Some(encoding);
        self
    }

    /// How the bytes are compressed, if that was said.
    pub fn encoding(&self) -> Option<Encoding> {
        self.encoding
    }

    /// The request, for a source that is one.
    pub fn as_request(&self) -> Option<&ImageRequest> {
        match &self.origin {
            Origin::Request(request) => Some(request),
            _ => None,
        }
    }

    /// Whether a digest of the bytes is expected or asked for.
    pub fn needs_sha256(&self) -> bool {
        self.wishes.needs_sha256()
    }

    /// Has `observer` told how far the transfer is: at most 20 times a second, and once at its end.
    ///
    /// It is called from any thread and must not block.
    #[must_use]
    pub fn with_observer(mut self, observer: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.wishes.observers.push(Arc::new(observer));
        self
    }

    /// Demands that the bytes *as the source delivers them* (the downloaded file, compressed if it
    /// is) have this SHA-256, before anything is replaced.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`]: not 64 hexadecimal digits.
    pub fn expect_sha256(mut self, hex: impl AsRef<str>) -> Result<Self> {
        let hex = hex.as_ref().trim().to_ascii_lowercase();
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Error::invalid_argument(format!("`{hex}` is no SHA-256")).with_hint(
                "a SHA-256 is 64 hexadecimal digits, as `sha256sum FILE` prints first",
            ));
        }
        self.wishes.expected_sha256 = Some(hex);
        Ok(self)
    }

    /// Asks for the SHA-256 of the bytes as the source delivers them; it is in the report once the
    /// flash is done.
    #[must_use]
    pub fn report_sha256(mut self) -> (Self, DigestReport) {
        let report = self.wishes.report.get_or_insert_default().clone();
        (self, report)
    }

    /// What to call the image in messages.
    pub fn name(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        match &self.origin {
            Origin::Path(path) => {
                path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
            }
            Origin::Request(request) => {
                let url = request.to_string();
                url.trim_end_matches('/').rsplit('/').next().unwrap_or("image").to_owned()
            }
            Origin::Bytes(_) | Origin::Stream(_) => "image".to_owned(),
        }
    }

    /// How many bytes it delivers, if that is known: announced, or the size of the file now.
    ///
    /// Waits for the file's file system; a call that hangs there keeps no runtime thread.
    pub fn length(&self) -> impl Future<Output = Option<u64>> + Send + use<> {
        let (path, announced) = (self.local_path().map(Path::to_owned), self.length);
        async move {
            let Some(path) = path else { return announced };
            let looking = tokio::task::spawn_blocking(move || std::fs::metadata(path));
            let metadata = looking.await.ok()?.ok()?;
            metadata.is_file().then_some(metadata.len())
        }
    }

    /// The file, for a source that is one: a driver may read it in its own way.
    pub fn local_path(&self) -> Option<&Path> {
        match &self.origin {
            Origin::Path(path) => Some(path),
            Origin::Bytes(_) | Origin::Request(_) | Origin::Stream(_) => None,
        }
    }

    /// What was asked for besides the bytes. Whoever takes the wishes fulfils them; the source has
    /// none afterwards.
    pub fn take_wishes(&mut self) -> Wishes {
        if let (Origin::Request(request), Some(_)) =
            (&mut self.origin, &self.wishes.expected_sha256)
        {
            *request = request.clone().checked();
        }
        std::mem::take(&mut self.wishes)
    }

    /// Opens the image for reading, as it is stored (not decompressed).
    ///
    /// The stream tells the observers, and fails with [`ErrorKind::DataLoss`] if it ends before or
    /// after the announced length. Cancelling is harmless.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::PermissionDenied`] and the like: the file cannot be
    /// opened. [`ErrorKind::Unimplemented`]: it is at a URL, and nothing here fetches; the caller
    /// expects a digest, and this driver did not take that wish.
    pub async fn open(mut self) -> Result<ImageStream> {
        let name = self.name();
        let wishes = self.take_wishes();
        if wishes.needs_sha256() {
            return Err(Error::unimplemented(format!(
                "flashing {name}: this driver checks no digests"
            ))
            .with_hint(
                "compare the file with `sha256sum` and flash it without an expected digest",
            ));
        }
        let (stream, length) = match self.origin {
            Origin::Bytes(bytes) => (stream::iter([Ok(bytes)]).boxed(), self.length),
            Origin::Stream(stream) => (stream, self.length),
            Origin::Request(request) => {
                let download = (support("fetch images from URLs")?.download)(request)?;
                let Origin::Stream(stream) = download.origin else {
                    return Err(Error::internal("a download is not a stream"));
                };
                (stream, download.length)
            }
            Origin::Path(path) => {
                let doing = format!("opening the image {}", path.display());
                open_path(&path).await.context(doing)?
            }
        };
        Ok(ImageStream::new(name, stream, length, wishes.observers))
    }

    /// As [`open`](Self::open), at the first read; what opening says is then the first item.
    pub fn into_stream(self) -> BoxStream<'static, io::Result<Bytes>> {
        stream::once(async move { self.open().await.map_err(io::Error::from) })
            .try_flatten()
            .boxed()
    }
}

/// Opens a file, device or pipe, and says how long it is, if that is known. Does not wait for a
/// pipe's writer: the first read does, which can be cancelled and timed.
async fn open_path(path: &Path) -> Result<(BoxStream<'static, io::Result<Bytes>>, Option<u64>)> {
    let path = path.to_owned();
    let opened = blocking(move || {
        let is_pipe = std::fs::metadata(&path)?.file_type().is_fifo();
        let flags = if is_pipe { OFlags::NONBLOCK } else { OFlags::empty() };
        let file = File::options().read(true).custom_flags(flags.bits() as i32).open(&path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(Error::invalid_argument("it is a folder"));
        }
        Ok((file, is_pipe, metadata.is_file().then_some(metadata.len())))
    });
    let (file, is_pipe, length) = opened.await?;
    let bytes = match is_pipe {
        true => ReaderStream::with_capacity(pipe::Receiver::from_file(file)?, CHUNK).boxed(),
        false => ReaderStream::with_capacity(tokio::fs::File::from_std(file), CHUNK).boxed(),
    };
    Ok((bytes, length))
}

impl fmt::Debug for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ImageSource");
        debug
            .field("name", &self.name())
            .field("length", &self.length)
            .field("wishes", &self.wishes);
        debug.field("local_path", &self.local_path()).finish()
    }
}

/// What is asked of whoever reads a source, besides reading it.
#[derive(Default)]
pub struct Wishes {
    observers: Vec<Observer>,
    expected_sha256: Option<String>,
    report: Option<DigestReport>,
}

impl Wishes {
    /// Whether somebody wants the SHA-256 of the delivered bytes, to compare or to know.
    pub fn needs_sha256(&self) -> bool {
        self.expected_sha256.is_some() || self.report.is_some()
    }

    /// Who is to be told of the progress.
    pub fn observers(&self) -> Vec<Observer> {
        self.observers.clone()
    }

    /// Hands in the digest of all bytes that were delivered (lower-case hexadecimal), before
    /// anything is replaced.
    ///
    /// # Errors
    /// [`ErrorKind::DataLoss`]: another one was expected.
    pub fn settle_sha256(&self, found: &str) -> Result<()> {
        if let Some(report) = &self.report {
            // A second hand-in changes nothing: a source is read once.
            report.0.get_or_init(|| found.to_owned());
        }
        match &self.expected_sha256 {
            Some(expected) if expected != found => {
                Err(Error::new(ErrorKind::DataLoss, format!("its SHA-256 is {found}, not {expected}"))
                    .with_hint("the download is damaged or another file; the digest is that of the file as downloaded, before decompression"))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Wishes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wishes")
            .field("observers", &self.observers.len())
            .field("expected_sha256", &self.expected_sha256)
            .field("report", &self.report)
            .finish()
    }
}

/// Where the digest of a flashed image will be.
#[derive(Clone, Debug, Default)]
pub struct DigestReport(Arc<OnceLock<String>>);

impl DigestReport {
    /// The SHA-256 in lower-case hexadecimal, once all bytes were read.
    pub fn sha256(&self) -> Option<String> {
        self.0.get().cloned()
    }
}
