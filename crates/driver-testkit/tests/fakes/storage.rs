//! A storage in a private folder, which can do something wrong.

use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{
    FileMode, HashAlgorithm, PresignedRequest, StorageCapability, StoredMetadata,
};
use jumpstarter_files::ConfinedFolder;
use jumpstarter_storage::StorageDriver;

super::fake!(StorageConfig, "fake-storage", StorageFake);

pub(crate) struct StorageFake {
    fault: String,
    inner: StorageDriver,
    folder: Mutex<Option<tempfile::TempDir>>,
}

impl StorageFake {
    pub(crate) fn open(fault: String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let confined = Arc::new(ConfinedFolder::open(folder.path()).unwrap());
        Self {
            fault,
            inner: StorageDriver::folder(confined, true),
            folder: Mutex::new(Some(folder)),
        }
    }

    fn is(&self, fault: &str) -> bool {
        self.fault == fault
    }
}

#[async_trait]
impl Driver for StorageFake {
    interfaces!(Storage);

    async fn reset(&self) -> Result<()> {
        self.inner.reset().await
    }

    async fn close(&self) -> Result<()> {
        let closed = self.inner.close().await;
        drop(self.folder.lock().unwrap().take());
        closed
    }
}

macro_rules! pass_on {
    ($($method:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        #[async_trait]
        impl Storage for StorageFake {
            async fn file_seek(&self, fd: String, pos: i64, whence: Option<u32>) -> Result<u64> {
                let (pos, whence) = match self.is("moves from the start") {
                    true => (pos.abs(), None),
                    false => (pos, whence),
                };
                self.inner.file_seek(fd, pos, whence).await
            }

            async fn file_write(&self, fd: String, src: ImageSource) -> Result<()> {
                match self.inner.file_write(fd, src).await {
                    Err(_) if self.is("hides failures") => Ok(()),
                    written => written,
                }
            }

            async fn stat(&self, path: String) -> Result<StoredMetadata> {
                match self.inner.stat(path).await {
                    Err(error)
                        if self.is("leads out") && error.kind() == ErrorKind::PermissionDenied =>
                    {
                        Ok(StoredMetadata::default())
                    }
                    stat => stat,
                }
            }

            async fn list(&self, path: String) -> Result<ValueStream<String>> {
                let skipped = usize::from(self.is("omits the folder"));
                Ok(self.inner.list(path).await?.skip(skipped).boxed())
            }

            async fn file_tell(&self, fd: String) -> Result<u64> {
                if self.is("knows any handle") {
                    return Ok(0);
                }
                self.inner.file_tell(fd).await
            }

            $(async fn $method(&self, $($argument: $type),*) -> Result<$result> {
                self.inner.$method($($argument),*).await
            })*
        }
    };
}

pass_on! {
    open(path: String, mode: FileMode) -> String;
    file_read(fd: String, dst: ImageSink) -> ();
    file_close(fd: String) -> ();
    file_closed(fd: String) -> bool;
    file_readable(fd: String) -> bool;
    file_seekable(fd: String) -> bool;
    file_writable(fd: String) -> bool;
    hash(path: String, algo: Option<HashAlgorithm>) -> String;
    copy(source: String, target: String) -> ();
    rename(source: String, target: String) -> ();
    remove_all(path: String) -> ();
    create_dir(path: String) -> ();
    delete(path: String) -> ();
    exists(path: String) -> bool;
    scan(path: String) -> ValueStream<String>;
    presign_stat(path: String, expire_second: u64) -> PresignedRequest;
    presign_read(path: String, expire_second: u64) -> PresignedRequest;
    presign_write(path: String, expire_second: u64) -> PresignedRequest;
    capability() -> StorageCapability;
    get_created_resources() -> Vec<String>;
    register_path(path: String) -> ();
}
