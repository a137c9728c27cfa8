//! The source of an image: a file, a stream, a reader, or memory.

use super::encoding::Encoding;
use super::progress::{Observer, Progress};
use super::remote::{ImageRequest, least_length, support};
use super::stream::ImageStream;
use crate::blocking;
use crate::error::{Error, Result, ResultExt};
use bytes::Bytes;
use futures_core::Stream;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use rustix::fs::OFlags;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use tokio::io::AsyncRead;
use tokio::net::unix::pipe;
use tokio_util::io::ReaderStream;

/// Bytes requested from a file or reader at once.
const CHUNK: usize = 1024 * 1024;
/// The bytes of a file's start that may show its length.
const LOOKED_AT: u64 = 512;

/// An image to be flashed; read once, from its beginning.
///
/// The caller of a flash makes one and adds wishes ([`with_observer`](Self::with_observer),
/// [`expect_sha256`](Self::expect_sha256), [`report_sha256`](Self::report_sha256),
/// [`verify`](Self::verify), [`with_block_map`](Self::with_block_map)). A driver passes it to
/// `jumpstarter_driver_flasher::write_image`, which honours all of them, or reads it with
/// [`open`](Self::open). The latter notifies observers and checks the length, but refuses a source
/// with any other wish, since nothing would fulfil it. A driver that fulfils wishes takes them out
/// first, with [`take_wishes`](Self::take_wishes).
pub struct ImageSource {
    name: Option<String>,
    length: Option<u64>,
    late_length: LateLength,
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
        Self {
            name: None,
            length,
            late_length: LateLength::default(),
            origin,
            wishes: Wishes::default(),
            encoding: None,
        }
    }

    /// A file of this machine; it is opened when it is read, so a missing file is noticed then.
    pub fn path(path: impl Into<PathBuf>) -> Self {
        Self::new(Origin::Path(path.into()), None)
    }

    /// Bytes in memory.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let length = bytes.len() as u64;
        Self::new(Origin::Bytes(bytes), Some(length))
    }

    /// The file at an `http` or `https` URL, which the driver's machine must reach: see
    /// [`ImageRequest`].
    ///
    /// # Errors
    /// `InvalidArgument` for another URL.
    pub fn url(url: impl Into<String>) -> Result<Self> {
        ImageRequest::new(url).map(Self::request)
    }

    /// The answer to a GET request.
    pub fn request(request: ImageRequest) -> Self {
        Self::new(Origin::Request(request), None)
    }

    /// The bytes of `reader` until its end; `length` in bytes, if it is known, is enforced.
    pub fn reader(reader: impl AsyncRead + Send + 'static, length: Option<u64>) -> Self {
        Self::stream(ReaderStream::with_capacity(reader, CHUNK), length)
    }

    /// The bytes of `stream` until its end; `length` in bytes, if it is known, is enforced.
    pub fn stream(
        stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        length: Option<u64>,
    ) -> Self {
        Self::new(Origin::Stream(stream.boxed()), length)
    }

    /// Sets the image's name in messages. By default a path has its file name.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Announces the number of bytes of a stream; another number fails the reading.
    #[must_use]
    pub fn with_length(mut self, bytes: u64) -> Self {
        self.length = Some(bytes);
        self
    }

    /// Gives the place where the stream's length is found once its first bytes have come.
    #[must_use]
    pub fn with_late_length(mut self, length: LateLength) -> Self {
        self.late_length = length;
        self
    }

    /// The place of the length of a stream whose beginning announces it.
    pub fn late_length(&self) -> LateLength {
        self.late_length.clone()
    }

    /// Makes a stream of an image at a URL: it is fetched when it is read. Any other source stays
    /// as it is.
    ///
    /// # Errors
    /// `Unimplemented` if nothing in this program fetches URLs.
    pub fn fetched(mut self) -> Result<Self> {
        self.name = Some(self.name());
        if let Origin::Request(request) = self.origin {
            let download = (support("fetch images from URLs")?.download)(request)?;
            (self.origin, self.length) = (download.origin, download.length);
            self.late_length = download.late_length;
        }
        Ok(self)
    }

    /// Sets the compression, if the signature does not show it; a remote exporter then decompresses
    /// accordingly. Local drivers use the signature.
    #[must_use]
    pub fn with_encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = Some(encoding);
        self
    }

    /// The compression that was set, if any.
    pub fn encoding(&self) -> Option<Encoding> {
        self.encoding
    }

    /// The request, if the source is one.
    pub fn as_request(&self) -> Option<&ImageRequest> {
        match &self.origin {
            Origin::Request(request) => Some(request),
            _ => None,
        }
    }

    /// Whether a digest of the bytes is expected or requested.
    pub fn needs_sha256(&self) -> bool {
        self.wishes.needs_sha256()
    }

    /// Adds an `observer` of the progress: notified at most 20 times a second, and once at the end.
    ///
    /// It is called from any thread and must not block.
    #[must_use]
    pub fn with_observer(mut self, observer: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.wishes.observers.push(Arc::new(observer));
        self
    }

    /// Requires the bytes *as the source delivers them* (the downloaded file, compressed if it is)
    /// to have this SHA-256; it is checked before anything is replaced.
    ///
    /// # Errors
    /// `InvalidArgument` unless `hex` is 64 hexadecimal digits.
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

    /// Requests the SHA-256 of the bytes as the source delivers them; the report has it after the
    /// flash.
    #[must_use]
    pub fn report_sha256(mut self) -> (Self, DigestReport) {
        let report = self.wishes.report.get_or_insert_default().clone();
        (self, report)
    }

    /// Requires the driver to read the image back from the medium, past every cache, before the
    /// flash succeeds.
    #[must_use]
    pub fn verify(mut self) -> Self {
        self.wishes.verify = true;
        self
    }

    /// Gives the block map of the image, decompressed: the text of a bmap file, as `bmaptool
    /// create` writes it. Only mapped blocks are written, and each range must have its checksum.
    #[must_use]
    pub fn with_block_map(mut self, text: impl Into<String>) -> Self {
        self.wishes.block_map = Some(text.into());
        self
    }

    /// The wishes beyond the bytes.
    pub fn wishes(&self) -> &Wishes {
        &self.wishes
    }

    /// The image's name in messages.
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

    /// The number of bytes, if it is known: the announced one, or the file's current size.
    ///
    /// Waits for the file system of the file, without blocking a runtime thread.
    pub fn length(&self) -> impl Future<Output = Option<u64>> + Send + use<> {
        let (path, announced) = (self.local_path().map(Path::to_owned), self.length);
        async move {
            let Some(path) = path else { return announced };
            let looking = tokio::task::spawn_blocking(move || std::fs::metadata(path));
            let metadata = looking.await.ok()?.ok()?;
            metadata.is_file().then_some(metadata.len())
        }
    }

    /// Opens and reads the beginning of a file, without consuming the source, and returns the least
    /// length of the image, decompressed, if that is known. Neither a URL nor a stream nor a pipe
    /// is opened.
    pub(crate) fn look_ahead(&self) -> impl Future<Output = Result<Option<u64>>> + Send + use<> {
        let bytes = match &self.origin {
            Origin::Bytes(bytes) => least_length(bytes, bytes.len() as u64),
            _ => None,
        };
        let path = self.local_path().map(Path::to_owned);
        async move {
            let Some(path) = path else { return Ok(bytes) };
            let doing = format!("opening {}", path.display());
            blocking(move || look_at(&path)).await.context(doing)
        }
    }

    /// The file, if the source is one: a driver may read it directly.
    pub fn local_path(&self) -> Option<&Path> {
        match &self.origin {
            Origin::Path(path) => Some(path),
            Origin::Bytes(_) | Origin::Request(_) | Origin::Stream(_) => None,
        }
    }

    /// Takes the wishes beyond the bytes. The caller must fulfil them; the source has none
    /// afterwards.
    pub fn take_wishes(&mut self) -> Wishes {
        if let (Origin::Request(request), Some(sha256)) =
            (&mut self.origin, &self.wishes.expected_sha256)
        {
            *request = request.clone().with_sha256(sha256);
        }
        std::mem::take(&mut self.wishes)
    }

    /// Opens the image for reading, as it is stored (not decompressed).
    ///
    /// The stream notifies the observers, and fails with `DataLoss` if it ends before
    /// or after the announced length. Cancelling is harmless.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied` and the like if the file cannot be
    /// opened. `Unimplemented` for a URL if nothing in this program fetches it, and
    /// for an expected digest if this driver did not take that wish.
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
        if wishes.verify || wishes.block_map.is_some() {
            return Err(Error::unimplemented(format!(
                "flashing {name}: this driver neither reads images back nor uses block maps"
            ))
            .with_hint("flash it without `--verify` and with `--no-bmap`"));
        }
        self = self.fetched()?;
        let (stream, length) = match self.origin {
            Origin::Bytes(bytes) => (stream::iter([Ok(bytes)]).boxed(), self.length),
            Origin::Stream(stream) => (stream, self.length),
            Origin::Request(_) => return Err(Error::internal("a download is not a stream")),
            Origin::Path(path) => {
                let doing = format!("opening the image {}", path.display());
                open_path(&path).await.context(doing)?
            }
        };
        Ok(ImageStream::new(name, stream, length, wishes.observers))
    }

    /// As [`open`](Self::open), at the first read; an error of opening is then the first item.
    pub fn into_stream(self) -> BoxStream<'static, io::Result<Bytes>> {
        stream::once(async move { self.open().await.map_err(io::Error::from) })
            .try_flatten()
            .boxed()
    }
}

/// The least length of a file's image, if it is known; see [`ImageSource::look_ahead`].
fn look_at(path: &Path) -> Result<Option<u64>> {
    let found = std::fs::metadata(path)?;
    if found.is_dir() {
        return Err(Error::invalid_argument("it is a folder"));
    }
    // Opening a pipe could wait for its writer.
    if !found.is_file() {
        return Ok(None);
    }
    let mut start = Vec::new();
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.by_ref().take(LOOKED_AT).read_to_end(&mut start)?;
    match start.is_empty() {
        true => Err(Error::data_loss("the file is empty")),
        false => Ok(least_length(&start, length)),
    }
}

/// Opens a file, device or pipe, and returns its length, if it is known. Does not wait for a pipe's
/// writer: the first read does, which can be cancelled and timed.
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

/// The wishes of a source, which its reader fulfils.
#[derive(Default)]
pub struct Wishes {
    observers: Vec<Observer>,
    expected_sha256: Option<String>,
    report: Option<DigestReport>,
    verify: bool,
    block_map: Option<String>,
}

impl Wishes {
    /// Whether the image is to be read back from the medium.
    pub fn needs_verification(&self) -> bool {
        self.verify
    }

    /// The text of the image's bmap file.
    pub fn block_map(&self) -> Option<&str> {
        self.block_map.as_deref()
    }

    /// The SHA-256 that the delivered bytes must have, in lower-case hexadecimal.
    pub fn expected_sha256(&self) -> Option<&str> {
        self.expected_sha256.as_deref()
    }

    /// Whether the SHA-256 is to be reported.
    pub fn reports_sha256(&self) -> bool {
        self.report.is_some()
    }

    /// Whether the SHA-256 of the delivered bytes is wanted, for comparison or report.
    pub fn needs_sha256(&self) -> bool {
        self.expected_sha256.is_some() || self.report.is_some()
    }

    /// The callbacks for the progress.
    pub fn observers(&self) -> Vec<Observer> {
        self.observers.clone()
    }

    /// Hands in the digest of all delivered bytes (lower-case hexadecimal), before anything is
    /// replaced.
    ///
    /// # Errors
    /// `DataLoss` if another digest was expected.
    pub fn settle_sha256(&self, found: &str) -> Result<()> {
        if let Some(report) = &self.report {
            // A second hand-in changes nothing: a source is read once.
            report.0.get_or_init(|| found.to_owned());
        }
        match &self.expected_sha256 {
            Some(expected) if expected != found => {
                Err(Error::data_loss(format!("its SHA-256 is {found}, not {expected}"))
                    .with_hint("compare the digest with the downloaded file, before decompression: the download is damaged, or is another file"))
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
            .field("verify", &self.verify)
            .field("block_map", &self.block_map.is_some())
            .finish()
    }
}

/// The length of a stream that becomes known with its first bytes.
#[derive(Clone, Debug, Default)]
pub struct LateLength(Arc<OnceLock<u64>>);

impl LateLength {
    /// Announces the length in bytes; only the first counts.
    pub fn announce(&self, bytes: u64) {
        self.0.get_or_init(|| bytes);
    }

    /// The length in bytes, if it is known.
    pub fn get(&self) -> Option<u64> {
        self.0.get().copied()
    }
}

/// The digest of a flashed image, once it is known.
#[derive(Clone, Debug, Default)]
pub struct DigestReport(Arc<OnceLock<String>>);

impl DigestReport {
    /// The SHA-256 in lower-case hexadecimal, once all bytes are read.
    pub fn sha256(&self) -> Option<String> {
        self.0.get().cloned()
    }
}
