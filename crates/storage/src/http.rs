//! Files of an HTTP server, to read.

use std::collections::BTreeMap;
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{PresignedRequest, StorageCapability, StoredKind, StoredMetadata};
use jumpstarter_files::InnerPath;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use crate::backend::{Backend, Presigned, Reading, Writing};

/// What stands in the path of a URL as it is.
const KEPT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// The files below a URL. They are fetched as images are: the program needs the crate
/// `jumpstarter-transfer`.
#[derive(Debug)]
pub struct HttpFiles {
    /// Without a slash at its end.
    base: String,
}

impl HttpFiles {
    /// The files below `root` of the server at `endpoint`.
    ///
    /// # Errors
    /// `InvalidArgument` for what is no `http` or `https` URL.
    pub fn new(endpoint: &str, root: &str) -> Result<Self> {
        let root = InnerPath::new(root)?;
        let root = utf8_percent_encode(root.as_str(), KEPT).to_string();
        let base = format!("{}/{root}", endpoint.trim_end_matches('/'));
        ImageSource::url(base.as_str())?;
        Ok(Self { base: base.trim_end_matches('/').to_owned() })
    }

    fn url(&self, path: &InnerPath) -> String {
        format!("{}/{}", self.base, utf8_percent_encode(path.as_str(), KEPT))
    }
}

fn read_only() -> Error {
    Error::unimplemented("a storage of the scheme `http` is only read")
}

#[async_trait]
impl Backend for HttpFiles {
    async fn read(&self, path: &InnerPath) -> Result<Box<dyn Reading>> {
        let mut source = ImageSource::url(self.url(path))?.open().await?;
        // A file without a name: positions can be moved in it, whatever the server can.
        let mut file = tokio::fs::File::from_std(blocking(|| Ok(tempfile::tempfile()?)).await?);
        while let Some(bytes) = source.receive().await? {
            file.write_all(&bytes).await?;
        }
        file.flush().await?;
        file.rewind().await?;
        Ok(Box::new(file))
    }

    async fn write(&self, _: &InnerPath) -> Result<Box<dyn Writing>> {
        Err(read_only())
    }

    async fn stat(&self, path: &InnerPath) -> Result<StoredMetadata> {
        let content_length = self.read(path).await?.seek(std::io::SeekFrom::End(0)).await?;
        let mode = StoredKind { is_file: true, is_dir: false };
        Ok(StoredMetadata { content_length, mode, ..StoredMetadata::default() })
    }

    async fn copy(&self, _: &InnerPath, _: &InnerPath) -> Result<()> {
        Err(read_only())
    }

    async fn rename(&self, _: &InnerPath, _: &InnerPath) -> Result<()> {
        Err(read_only())
    }

    async fn remove_all(&self, _: &InnerPath) -> Result<()> {
        Err(read_only())
    }

    async fn create_dir(&self, _: &InnerPath) -> Result<bool> {
        Err(read_only())
    }

    async fn delete(&self, _: &InnerPath) -> Result<()> {
        Err(read_only())
    }

    async fn list(&self, _: &InnerPath, _: bool) -> Result<ValueStream<String>> {
        Err(Error::unimplemented("HTTP lists no files"))
    }

    async fn presign(
        &self,
        what: Presigned,
        path: &InnerPath,
        _: Duration,
    ) -> Result<PresignedRequest> {
        let method = match what {
            Presigned::Stat => "HEAD",
            Presigned::Read => "GET",
            Presigned::Write => return Err(read_only()),
        };
        let (url, headers) = (self.url(path), BTreeMap::new());
        Ok(PresignedRequest { url, method: method.to_owned(), headers })
    }

    fn capability(&self) -> StorageCapability {
        StorageCapability {
            stat: true,
            read: true,
            presign: true,
            presign_read: true,
            presign_stat: true,
            shared: true,
            ..StorageCapability::default()
        }
    }
}
