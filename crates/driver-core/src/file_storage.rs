//! The interface of drivers that store files.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::call::ValueStream;
use crate::error::Result;
use crate::image::{ImageSink, ImageSource};
use crate::interface;
use crate::interface::Interfaces;

/// How a file of a [`Storage`] is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FileMode {
    /// For reading.
    #[serde(rename = "rb")]
    Read,
    /// For writing, from the beginning.
    #[serde(rename = "wb")]
    Write,
}

/// The digest of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HashAlgorithm {
    /// MD5: for comparisons with old lists only.
    Md5,
    /// SHA-256.
    #[default]
    Sha256,
}

/// What an entry of a [`Storage`] is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoredKind {
    /// Whether it is a file.
    #[serde(rename = "entry_is_file")]
    pub is_file: bool,
    /// Whether it is a folder.
    #[serde(rename = "entry_is_dir")]
    pub is_dir: bool,
}

/// What a [`Storage`] knows of a file or folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StoredMetadata {
    /// The `Content-Disposition` header of an object store.
    pub content_disposition: Option<String>,
    /// The size in bytes.
    pub content_length: u64,
    /// The MD5 that an object store has of it.
    pub content_md5: Option<String>,
    /// The media type that an object store has of it.
    pub content_type: Option<String>,
    /// Changes with the content.
    pub etag: Option<String>,
    /// Whether it is a file or a folder.
    pub mode: StoredKind,
}

/// A request that gives access to one file for some time, without credentials.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PresignedRequest {
    /// The URL, which may hold a signature.
    pub url: String,
    /// The method, such as `GET`.
    pub method: String,
    /// The headers to send.
    pub headers: BTreeMap<String, String>,
}

/// Without the signature.
impl std::fmt::Debug for PresignedRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let url = self.url.split('?').next().unwrap_or_default();
        write!(f, "PresignedRequest({} {url})", self.method)
    }
}

/// What a [`Storage`] can do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[expect(missing_docs, clippy::struct_excessive_bools, reason = "the fields are OpenDAL's")]
pub struct StorageCapability {
    pub stat: bool,
    pub stat_with_if_match: bool,
    pub stat_with_if_none_match: bool,
    pub read: bool,
    pub read_with_if_match: bool,
    pub read_with_if_none_match: bool,
    pub read_with_override_cache_control: bool,
    pub read_with_override_content_disposition: bool,
    pub read_with_override_content_type: bool,
    pub write: bool,
    pub write_can_multi: bool,
    pub write_can_empty: bool,
    pub write_can_append: bool,
    pub write_with_content_type: bool,
    pub write_with_content_disposition: bool,
    pub write_with_cache_control: bool,
    pub write_multi_max_size: Option<u64>,
    pub write_multi_min_size: Option<u64>,
    pub write_total_max_size: Option<u64>,
    pub create_dir: bool,
    pub delete: bool,
    pub copy: bool,
    pub rename: bool,
    pub list: bool,
    pub list_with_limit: bool,
    pub list_with_start_after: bool,
    pub list_with_recursive: bool,
    pub presign: bool,
    pub presign_read: bool,
    pub presign_stat: bool,
    pub presign_write: bool,
    pub shared: bool,
    pub blocking: bool,
}

/// Stores files: a folder of the exporter's host, or an object store.
///
/// Paths have `/` between names and lie below the storage's root, with or without a leading slash;
/// one that leads out of it is `PermissionDenied`. A path that ends with `/` means a folder.
///
/// A file is opened, written or read, and closed. [`write_file`](crate::storage::write_file) and
/// [`read_file`](crate::storage::read_file) do that.
///
/// Pitfall: a file that is written takes its name, and replaces an old one, when it is
/// [closed](Storage::file_close). One that is not closed is dropped.
#[interface(name = "storage", client = "jumpstarter_driver_opendal.client.OpendalClient")]
pub trait Storage {
    /// Opens a file and returns its handle. `NotFound` for a missing file to read.
    async fn open(&self, path: String, mode: FileMode) -> Result<String>;

    /// Reads the rest of an open file.
    async fn file_read(&self, fd: String, dst: ImageSink) -> Result<()>;

    /// Appends to a file that is open for writing. After an error the file can only be closed, and
    /// is dropped then.
    async fn file_write(&self, fd: String, src: ImageSource) -> Result<()>;

    /// Moves the position of a file that is open for reading, and returns the new one. `whence` is
    /// 0 for the start (the default), 1 for the current position, 2 for the end.
    async fn file_seek(&self, fd: String, pos: i64, whence: Option<u32>) -> Result<u64>;

    /// The position of a file that is open for reading.
    async fn file_tell(&self, fd: String) -> Result<u64>;

    /// Closes a file. One that was written completely takes its name.
    async fn file_close(&self, fd: String) -> Result<()>;

    /// Whether a file was closed.
    async fn file_closed(&self, fd: String) -> Result<bool>;

    /// Whether a file is open for reading.
    async fn file_readable(&self, fd: String) -> Result<bool>;

    /// Whether the position of a file can be moved.
    async fn file_seekable(&self, fd: String) -> Result<bool>;

    /// Whether a file is open for writing.
    async fn file_writable(&self, fd: String) -> Result<bool>;

    /// What is known of a file or folder.
    async fn stat(&self, path: String) -> Result<StoredMetadata>;

    /// The digest of a file, in hexadecimal; SHA-256 by default.
    async fn hash(&self, path: String, algo: Option<HashAlgorithm>) -> Result<String>;

    /// Copies a file.
    async fn copy(&self, source: String, target: String) -> Result<()>;

    /// Gives a file another path.
    async fn rename(&self, source: String, target: String) -> Result<()>;

    /// Removes a file, or a folder with everything in it.
    async fn remove_all(&self, path: String) -> Result<()>;

    /// Makes a folder and those above it. Its path ends with `/`.
    async fn create_dir(&self, path: String) -> Result<()>;

    /// Removes a file or an empty folder; succeeds if there is none.
    async fn delete(&self, path: String) -> Result<()>;

    /// Whether there is a file or folder.
    async fn exists(&self, path: String) -> Result<bool>;

    /// Lists a folder, itself included: folders end with `/`. Without a slash at its end a path
    /// lists what begins with it.
    async fn list(&self, path: String) -> Result<ValueStream<String>>;

    /// As `list`, with the folders in it.
    async fn scan(&self, path: String) -> Result<ValueStream<String>>;

    /// A request for the metadata of a file, valid for that number of seconds.
    async fn presign_stat(&self, path: String, expire_second: u64) -> Result<PresignedRequest>;

    /// A request that reads a file, valid for that number of seconds.
    async fn presign_read(&self, path: String, expire_second: u64) -> Result<PresignedRequest>;

    /// A request that writes a file, valid for that number of seconds.
    async fn presign_write(&self, path: String, expire_second: u64) -> Result<PresignedRequest>;

    /// What the storage can do.
    async fn capability(&self) -> Result<StorageCapability>;

    /// The paths that were made since the storage was opened.
    async fn get_created_resources(&self) -> Result<Vec<String>>;

    /// Adds a path to those that were made, which may be removed when the storage is closed.
    async fn register_path(&self, path: String) -> Result<()>;
}

impl<'a> Interfaces<'a> {
    /// Adds [`Storage`].
    #[must_use]
    pub fn storage(self, storage: &'a (dyn Storage + 'static)) -> Self {
        self.with::<dyn Storage>(storage)
    }
}
