//! Images in files or block devices of this machine: for an emulator, a file server, a card in a
//! reader.

use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use jumpstarter_codec::Compression;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{ConfigProblem, suggest};

use crate::device::device_size;
use crate::options::WriteOptions;
use crate::read::read_image;
use crate::thread::on_thread;
use crate::write::write_image;

/// The most files of a folder that are looked at.
const MOST_PARTITIONS: usize = 4096;

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
    /// A folder of partitions: each target without an entry in `targets` is a file in it. A missing
    /// file is created.
    #[serde(default)]
    folder: Option<HostPath>,
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
        if self.path.is_none() && self.targets.is_empty() && self.folder.is_none() {
            return vec![ConfigProblem::new(
                "path",
                "none of `path`, `targets` and `folder` names a file to write to",
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
        let Self { path, targets, folder, .. } = self;
        Ok(FileFlasher { path, targets, folder, options })
    }
}
register_driver!(FileFlasherConfig);

/// The driver of [`FileFlasherConfig`].
#[derive(Debug)]
pub struct FileFlasher {
    path: Option<HostPath>,
    targets: BTreeMap<String, HostPath>,
    folder: Option<HostPath>,
    options: WriteOptions,
}

impl FileFlasher {
    async fn path(&self, target: Option<&str>) -> Result<PathBuf> {
        let names = self.targets.keys().map(String::as_str);
        match (target, &self.path, &self.folder) {
            (Some(name), _, folder) => match (self.targets.get(name), folder) {
                (Some(path), _) => Ok(path.located().await),
                (None, Some(folder)) => in_folder(folder.located().await, name).await,
                (None, None) => {
                    Err(Error::invalid_argument(format!("there is no target `{name}`"))
                        .with_hint(suggest::hint(name, names)))
                }
            },
            (None, Some(path), _) => Ok(path.located().await),
            (None, None, folder) => {
                let message = "no target was named, and no `path` is configured for that case";
                Err(Error::invalid_argument(message).with_hint(match folder {
                    Some(folder) => format!("name a file in {}", folder.written()),
                    None => format!("name one of {}", suggest::list(names)),
                }))
            }
        }
    }
}

/// The file of that name in the folder, and in no other.
async fn in_folder(folder: PathBuf, name: &str) -> Result<PathBuf> {
    // A name with a dot at its beginning could be that of a staged file.
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        let message =
            format!("`{}` names no file in the folder of partitions", name.escape_debug());
        return Err(Error::invalid_argument(message)
            .with_hint("give a name without `/` that does not begin with a dot"));
    }
    let path = folder.join(name);
    let seen = path.clone();
    let is_link = move || std::fs::symlink_metadata(seen).is_ok_and(|found| found.is_symlink());
    if on_thread("flash-target", is_link).await? {
        let message = format!("{} is a link, which may leave the folder", path.display());
        return Err(Error::permission_denied(message)
            .with_hint("list it in `targets` of the exporter file if that is intended"));
    }
    Ok(path)
}

impl Driver for FileFlasher {
    interfaces!(Flasher);
}

#[async_trait]
impl Flasher for FileFlasher {
    async fn flash(&self, source: ImageSource, target: Option<String>) -> Result<()> {
        let path = self.path(target.as_deref()).await?;
        let report = write_image(source, &path, self.options.clone()).await?;
        tracing::info!(path = %path.display(), bytes = report.bytes_written, compression = %report.compression, "flashed");
        Ok(())
    }

    async fn dump(&self, target: ImageSink, partition: Option<String>) -> Result<()> {
        let path = self.path(partition.as_deref()).await?;
        read_image(&path, target).await.map(drop)
    }

    async fn targets(&self) -> Result<FlashTargets> {
        let mut paths = Vec::new();
        for (name, path) in &self.targets {
            paths.push((name.clone(), path.located().await));
        }
        let folder = match &self.folder {
            Some(folder) => Some(folder.located().await),
            None => None,
        };
        let (accepts_others, options) = (folder.is_some(), self.options.clone());
        let find = move || {
            if let Some(folder) = folder {
                let files = partitions(&folder).with_context(|| folder.display().to_string())?;
                paths.extend(files.into_iter().map(|name| (name.clone(), folder.join(name))));
            }
            let target = |(name, path): (String, PathBuf)| {
                let sizes = [device_size(&path), options.limit_bytes];
                // What is written unchanged may be larger, or smaller, than what it holds.
                let size = sizes.into_iter().flatten().min();
                let capacity_bytes = size.filter(|_| options.compression.is_none());
                FlashTarget { name, capacity_bytes }
            };
            Ok(FlashTargets { known: paths.into_iter().map(target).collect(), accepts_others })
        };
        on_thread("flash-targets", find).await?
    }
}

/// The names of the files and block devices in a folder of partitions, in order.
fn partitions(folder: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        // It may be of a medium that is not inserted.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries.take(MOST_PARTITIONS) {
        let entry = entry?;
        let kind = entry.file_type()?;
        if (kind.is_file() || kind.is_block_device())
            && let Ok(name) = entry.file_name().into_string()
            && !name.starts_with('.')
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
