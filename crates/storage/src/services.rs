//! Services of OpenDAL as storage.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::ready;
use futures_util::{StreamExt, TryStreamExt, stream};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{PresignedRequest, StorageCapability, StoredKind, StoredMetadata};
use jumpstarter_files::InnerPath;
use opendal_core::{EntryMode, Operator, Writer};
use tokio_util::compat::FuturesAsyncReadCompatExt;

use self::budget::{Budget, Taken};
use self::error::mapped;
use crate::backend::{Backend, Presigned, Reading, Writing};

#[cfg_attr(not(feature = "memory"), expect(dead_code, reason = "memory alone is limited"))]
mod budget;
mod error;
#[cfg(feature = "memory")]
mod memory;
#[cfg(feature = "s3")]
pub(crate) mod s3;
#[cfg(feature = "s3")]
mod transport;

/// How much of a file is written to a service at once. A service with a limit of 10,000 parts takes
/// files of up to 156 GiB.
const PART: usize = 16 * 1024 * 1024;

/// A service of OpenDAL.
#[derive(Debug)]
pub struct Services {
    operator: Operator,
    /// For a service in the memory of this process.
    budget: Option<Arc<Budget>>,
}

/// The path as OpenDAL has it.
fn path(path: &InnerPath) -> String {
    path.to_string()
}

#[async_trait]
impl Backend for Services {
    async fn read(&self, file: &InnerPath) -> Result<Box<dyn Reading>> {
        // Else a missing file would be noticed with the first read.
        let length = self.operator.stat(&path(file)).await.map_err(mapped)?.content_length();
        let reader = self.operator.reader(&path(file)).await.map_err(mapped)?;
        let reader = reader.into_futures_async_read(0..length).await.map_err(mapped)?;
        Ok(Box::new(reader.compat()))
    }

    async fn write(&self, file: &InnerPath) -> Result<Box<dyn Writing>> {
        let taken = match &self.budget {
            Some(budget) => Some(budget.clone().begin(&self.operator).await?),
            None => None,
        };
        let part = self.operator.info().capability().write_can_multi.then_some(PART);
        let file = path(file);
        let opened = self.operator.writer_with(&file);
        let opened = match part {
            Some(part) => opened.chunk(part).await,
            None => opened.await,
        };
        Ok(Box::new(Sending { writer: Some(opened.map_err(mapped)?), taken }))
    }

    async fn stat(&self, file: &InnerPath) -> Result<StoredMetadata> {
        let found = self.operator.stat(&path(file)).await.map_err(mapped)?;
        let text = |text: Option<&str>| text.map(str::to_owned);
        Ok(StoredMetadata {
            content_disposition: text(found.content_disposition()),
            content_length: found.content_length(),
            content_md5: text(found.content_md5()),
            content_type: text(found.content_type()),
            etag: text(found.etag()),
            mode: StoredKind {
                is_file: found.mode() == EntryMode::FILE,
                is_dir: found.mode() == EntryMode::DIR,
            },
        })
    }

    async fn copy(&self, from: &InnerPath, to: &InnerPath) -> Result<()> {
        if let Some(budget) = &self.budget {
            let length = self.operator.stat(&path(from)).await.map_err(mapped)?.content_length();
            budget.clone().begin(&self.operator).await?.take(length)?;
        }
        self.operator.copy(&path(from), &path(to)).await.map(drop).map_err(mapped)
    }

    async fn rename(&self, from: &InnerPath, to: &InnerPath) -> Result<()> {
        self.operator.rename(&path(from), &path(to)).await.map_err(mapped)
    }

    async fn remove_all(&self, entry: &InnerPath) -> Result<()> {
        // Without its slash a folder's path is that of a file.
        let folder = format!("{}/", entry.as_str());
        self.operator.delete(&path(entry)).await.map_err(mapped)?;
        self.operator.delete_with(&folder).recursive(true).await.map_err(mapped)
    }

    async fn create_dir(&self, folder: &InnerPath) -> Result<bool> {
        let mut was_missing = false;
        let mut made = String::new();
        for name in folder.as_str().split('/') {
            made = made + name + "/";
            was_missing = !self.operator.exists(&made).await.map_err(mapped)?;
            if was_missing {
                self.operator.create_dir(&made).await.map_err(mapped)?;
            }
        }
        Ok(was_missing)
    }

    async fn delete(&self, entry: &InnerPath) -> Result<()> {
        self.operator.delete(&path(entry)).await.map_err(mapped)
    }

    async fn list(&self, prefix: &InnerPath, deep: bool) -> Result<ValueStream<String>> {
        let folder = prefix.is_folder();
        let prefix = path(prefix);
        let lister = self.operator.lister_with(&prefix).recursive(deep).await.map_err(mapped)?;
        let mut entries = lister.map_err(mapped).map_ok(|entry| entry.path().to_owned());
        let Some(first) = entries.next().await.transpose()? else {
            return Ok(stream::empty().boxed());
        };
        // Services have no folders, or name them only where one was made.
        let folder = Some(prefix).filter(|prefix| folder && *prefix != first);
        let start = folder.clone().into_iter().chain([first]).map(Ok);
        let rest = entries.try_filter(move |entry| ready(folder.as_ref() != Some(entry)));
        Ok(stream::iter(start).chain(rest).boxed())
    }

    async fn presign(
        &self,
        what: Presigned,
        file: &InnerPath,
        valid: Duration,
    ) -> Result<PresignedRequest> {
        let file = path(file);
        let signed = match what {
            Presigned::Stat => self.operator.presign_stat(&file, valid).await,
            Presigned::Read => self.operator.presign_read(&file, valid).await,
            Presigned::Write => self.operator.presign_write(&file, valid).await,
        };
        let signed = signed.map_err(mapped)?;
        let headers = signed.header().iter().filter(|(name, _)| name.as_str() != "host");
        let text = |value: &http::HeaderValue| {
            let text = value.to_str().map(str::to_owned);
            text.map_err(|_| Error::internal("a signed header is no text"))
        };
        Ok(PresignedRequest {
            url: signed.uri().to_string(),
            method: signed.method().to_string(),
            headers: headers
                .map(|(name, value)| Ok((name.to_string(), text(value)?)))
                .collect::<Result<_>>()?,
        })
    }

    fn capability(&self) -> StorageCapability {
        let able = self.operator.info().capability();
        let size = |size: Option<usize>| size.and_then(|size| u64::try_from(size).ok());
        StorageCapability {
            stat: able.stat,
            stat_with_if_match: able.stat_with_if_match,
            stat_with_if_none_match: able.stat_with_if_none_match,
            read: able.read,
            read_with_if_match: able.read_with_if_match,
            read_with_if_none_match: able.read_with_if_none_match,
            read_with_override_cache_control: able.read_with_override_cache_control,
            read_with_override_content_disposition: able.read_with_override_content_disposition,
            read_with_override_content_type: able.read_with_override_content_type,
            write: able.write,
            write_can_multi: able.write_can_multi,
            write_can_empty: able.write_can_empty,
            write_can_append: able.write_can_append,
            write_with_content_type: able.write_with_content_type,
            write_with_content_disposition: able.write_with_content_disposition,
            write_with_cache_control: able.write_with_cache_control,
            write_multi_max_size: size(able.write_multi_max_size),
            write_multi_min_size: size(able.write_multi_min_size),
            write_total_max_size: size(able.write_total_max_size),
            create_dir: able.create_dir,
            delete: able.delete,
            copy: able.copy,
            rename: able.rename,
            list: able.list,
            list_with_limit: able.list_with_limit,
            list_with_start_after: able.list_with_start_after,
            list_with_recursive: able.list_with_recursive,
            presign: able.presign,
            presign_read: able.presign_read,
            presign_stat: able.presign_stat,
            presign_write: able.presign_write,
            shared: able.shared,
            blocking: false,
        }
    }
}

/// A file on its way to a service, whose writer is `None` after a write that failed or was
/// cancelled. Without its end a service drops what it has.
struct Sending {
    writer: Option<Writer>,
    taken: Option<Taken>,
}

#[async_trait]
impl Writing for Sending {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if let Some(taken) = &mut self.taken {
            taken.take(bytes.len() as u64)?;
        }
        let writer = self.writer.take();
        let mut writer = writer.ok_or_else(|| Error::aborted("an earlier write did not end"))?;
        // Services keep pieces until there are enough of them. A copy, because a connection waits
        // until the pieces that it received are dropped.
        match writer.write(Bytes::copy_from_slice(&bytes)).await {
            Ok(()) => {
                self.writer = Some(writer);
                Ok(())
            }
            Err(error) => {
                // The parts that arrived cost storage until they are removed.
                drop(writer.abort().await);
                Err(mapped(error))
            }
        }
    }

    async fn finish(mut self: Box<Self>) -> Result<()> {
        let writer = self.writer.take();
        let mut writer = writer.ok_or_else(|| Error::aborted("an earlier write did not end"))?;
        writer.close().await.map(drop).map_err(mapped)
    }
}
