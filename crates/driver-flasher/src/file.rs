//! Images in files or block devices of this machine: for an emulator, a file server, a card in a
//! reader.

use std::collections::BTreeMap;

use jumpstarter_codec::Compression;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{ConfigProblem, suggest};

use crate::options::WriteOptions;
use crate::read::read_image;
use crate::write::write_image;

/// Configuration of `file-flasher`: writes images to files or block devices of the exporter's
/// machine.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileFlasherConfig {
    /// File or block device that is written if no target is named. A missing file is created.
    #[serde(default)]
    path: Option<HostPath>,
    /// Further ones, by the name of the target (`partition` for a dump).
    #[serde(default)]
    targets: BTreeMap<String, HostPath>,
    /// Whether images compressed with gzip, xz, bzip2, zstd, lz4, lzma or lzip are decompressed,
    /// and Android sparse images expanded. Otherwise every file is written unchanged.
    #[serde(default = "yes")]
    decompress: bool,
    /// How long an image's transfer may make no progress before it fails, for example `30s`.
    #[serde(default)]
    stall_timeout: Option<Span>,
    /// The largest image that is written, decompressed, such as `8G`. By default an image may fill
    /// its file system, except a reserve of 5 %, at most 1 GiB.
    #[serde(default)]
    flash_limit: Option<ByteSize>,
    /// Whether each image is read back from the medium, past the page cache, and compared before
    /// the flash succeeds.
    #[serde(default)]
    verify: bool,
}

fn yes() -> bool {
    true
}

#[async_trait]
impl DriverConfig for FileFlasherConfig {
    const NAME: &'static str = "file-flasher";
    type Driver = FileFlasher;

    fn check(&self) -> Vec<ConfigProblem> {
        if self.path.is_none() && self.targets.is_empty() {
            return vec![ConfigProblem::new(
                "path",
                "neither `path` nor `targets` names a file to write to",
            )];
        }
        Vec::new()
    }

    async fn open(self, _: OpenContext) -> Result<FileFlasher> {
        let options = WriteOptions {
            stall_timeout: self.stall_timeout.map(Span::as_duration),
            compression: (!self.decompress).then_some(Compression::Raw),
            limit_bytes: self.flash_limit.map(ByteSize::as_bytes),
            verify: self.verify,
            ..WriteOptions::default()
        };
        Ok(FileFlasher { path: self.path, targets: self.targets, options })
    }
}
register_driver!(FileFlasherConfig);

/// The driver of [`FileFlasherConfig`].
#[derive(Debug)]
pub struct FileFlasher {
    path: Option<HostPath>,
    targets: BTreeMap<String, HostPath>,
    options: WriteOptions,
}

impl FileFlasher {
    fn path(&self, target: Option<&str>) -> Result<&HostPath> {
        let names = self.targets.keys().map(String::as_str);
        match target {
            Some(name) => self.targets.get(name).ok_or_else(|| {
                Error::invalid_argument(format!("there is no target `{name}`"))
                    .with_hint(suggest::hint(name, names))
            }),
            None => self.path.as_ref().ok_or_else(|| {
                Error::invalid_argument(
                    "no target was named, and no `path` is configured for that case",
                )
                .with_hint(format!("name one of {}", suggest::list(names)))
            }),
        }
    }
}

impl Driver for FileFlasher {
    interfaces!(Flasher);
}

#[async_trait]
impl Flasher for FileFlasher {
    async fn flash(&self, source: ImageSource, target: Option<String>) -> Result<()> {
        let path = self.path(target.as_deref())?.located().await;
        let report = write_image(source, &path, self.options.clone()).await?;
        tracing::info!(path = %path.display(), bytes = report.bytes_written, compression = %report.compression, "flashed");
        Ok(())
    }

    async fn dump(&self, target: ImageSink, partition: Option<String>) -> Result<()> {
        let path = self.path(partition.as_deref())?.located().await;
        read_image(&path, target).await.map(drop)
    }
}
