//! Verbs of storages: files on the exporter's host or in an object store.

use std::ffi::{OsStr, OsString};

use clap::{Args, ValueHint};
use jumpstarter_driver_core::storage::{read_file, write_file};
use jumpstarter_driver_core::{Error, ImageSink, ImageSource, Interface, Storage};
use serde_json::{Value, json};

use crate::fault::{Result, SUCCESS};
use crate::j::context::Context;
use crate::j::image;
use crate::j::progress::Transfer;
use crate::j::verb::{Say, Verb};

pub(super) static VERBS: &[Verb] = &[
    Verb::of::<WriteBytes>(),
    Verb::of::<ReadBytes>(),
    Verb::of::<WriteFromPath>(),
    Verb::of::<ReadIntoPath>(),
    Verb::of::<Stat>(),
    Verb::of::<Hash>(),
    Verb::of::<Exists>(),
    Verb::of::<PresignStat>(),
    Verb::of::<PresignRead>(),
    Verb::of::<PresignWrite>(),
];

/// Methods that the verbs cover.
pub(super) const COVERED: &[&str] = &[
    "open",
    "file_read",
    "file_write",
    "file_seek",
    "file_tell",
    "file_close",
    "file_closed",
    "file_readable",
    "file_seekable",
    "file_writable",
];

/// Writes a file of the storage with what standard input holds
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  echo hello | {path} write-bytes hello.txt")]
struct WriteBytes {
    /// The file in the storage
    path: String,
}

impl Say for WriteBytes {
    const NAME: &'static str = "write-bytes";

    async fn run(self, context: &Context) -> Result<u8> {
        write(context, &self.path, OsStr::new(image::STANDARD_STREAM)).await
    }
}

/// Prints a file of the storage
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  {path} read-bytes hello.txt")]
struct ReadBytes {
    /// The file in the storage
    path: String,
}

impl Say for ReadBytes {
    const NAME: &'static str = "read-bytes";

    async fn run(self, context: &Context) -> Result<u8> {
        read(context, &self.path, OsStr::new(image::STANDARD_STREAM)).await
    }
}

/// Writes a file of the storage from a local file or a URL
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  {path} write-from-path boot/zImage build/zImage

JSON: {\"file\", \"bytes\", \"seconds\", \"bytes_per_second\"}; the numbers are null if the exporter fetched the file itself")]
struct WriteFromPath {
    /// The file in the storage
    dst: String,
    /// The source: a file, a URL, or - for standard input
    #[arg(value_hint = ValueHint::FilePath)]
    src: OsString,
}

impl Say for WriteFromPath {
    const NAME: &'static str = "write-from-path";

    async fn run(self, context: &Context) -> Result<u8> {
        write(context, &self.dst, &self.src).await
    }
}

/// Reads a file of the storage into a local file
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  {path} read-into-path logs/boot.txt boot.txt

JSON: as of `write-from-path`; nothing if the file goes to standard output")]
struct ReadIntoPath {
    /// The file in the storage
    src: String,
    /// The destination: a file, or - for standard output
    #[arg(value_hint = ValueHint::FilePath)]
    dst: OsString,
}

impl Say for ReadIntoPath {
    const NAME: &'static str = "read-into-path";

    async fn run(self, context: &Context) -> Result<u8> {
        read(context, &self.src, &self.dst).await
    }
}

fn storage(context: &Context) -> Result<std::sync::Arc<dyn Storage>> {
    Ok(<dyn Storage>::remote(context.node()?.caller().clone()))
}

async fn write(context: &Context, path: &str, file: &OsStr) -> Result<u8> {
    let transfer = Transfer::start(image::label(file), &context.output);
    let source: ImageSource = image::source(file).await?.with_observer(transfer.observer());
    write_file(&*storage(context)?, path, source).await?;
    done(context, file, transfer)
}

async fn read(context: &Context, path: &str, file: &OsStr) -> Result<u8> {
    let to_standard_output = file == image::STANDARD_STREAM;
    let transfer = Transfer::start(image::sink_label(file), &context.output);
    let sink: ImageSink = image::open_sink(file, &context.output).await?;
    let sink = sink.with_observer(transfer.observer());
    read_file(&*storage(context)?, path, sink).await?;
    match to_standard_output {
        true => {
            transfer.finish();
            Ok(SUCCESS)
        }
        false => done(context, file, transfer),
    }
}

fn done(context: &Context, file: &OsStr, transfer: Transfer) -> Result<u8> {
    let summary = transfer.finish();
    if context.output.is_json() {
        context.output.value(&summary.of(json!({"file": file.to_string_lossy()}))?)?;
    }
    Ok(SUCCESS)
}

#[derive(Debug, Args)]
struct Stat {
    /// The file or folder in the storage
    path: String,
}

impl Say for Stat {
    const NAME: &'static str = "stat";

    async fn run(self, context: &Context) -> Result<u8> {
        let stat = storage(context)?.stat(self.path).await?;
        let mut value =
            serde_json::to_value(&stat).map_err(|error| Error::internal(error.to_string()))?;
        // As the Python client prints it.
        value["mode"] = json!({"is_file": stat.mode.is_file, "is_dir": stat.mode.is_dir});
        context.output.value(&value)?;
        Ok(SUCCESS)
    }
}

#[derive(Debug, Args)]
struct Hash {
    /// The file in the storage
    path: String,
    /// The digest
    #[arg(long, value_parser = ["md5", "sha256"], default_value = "sha256")]
    algo: String,
}

impl Say for Hash {
    const NAME: &'static str = "hash";

    async fn run(self, context: &Context) -> Result<u8> {
        call(context, Self::NAME, vec![self.path.into(), self.algo.into()]).await
    }
}

/// Succeeds if there is such a file or folder, else fails
#[derive(Debug, Args)]
struct Exists {
    /// The file or folder in the storage
    path: String,
}

impl Say for Exists {
    const NAME: &'static str = "exists";

    async fn run(self, context: &Context) -> Result<u8> {
        let exists = storage(context)?.exists(self.path.clone()).await?;
        if !exists && !context.output.is_json() {
            return Err(Error::not_found(format!("path {} does not exist", self.path)).into());
        }
        if context.output.is_json() {
            context.output.value(&exists.into())?;
        }
        Ok(if exists { SUCCESS } else { 1 })
    }
}

/// What a signed request is for.
#[derive(Debug, Args)]
struct Signed {
    /// The file in the storage
    path: String,
    /// How long the request is valid
    #[arg(long, value_name = "SECONDS")]
    expire_second: u64,
}

macro_rules! presign {
    ($($verb:ident $name:literal $method:literal;)*) => {$(
        #[derive(Debug, Args)]
        struct $verb {
            #[command(flatten)]
            signed: Signed,
        }

        impl Say for $verb {
            const NAME: &'static str = $name;

            async fn run(self, context: &Context) -> Result<u8> {
                let Signed { path, expire_second } = self.signed;
                call(context, $method, vec![path.into(), expire_second.into()]).await
            }
        }
    )*};
}

presign! {
    PresignStat "presign-stat" "presign_stat";
    PresignRead "presign-read" "presign_read";
    PresignWrite "presign-write" "presign_write";
}

async fn call(context: &Context, method: &str, arguments: Vec<Value>) -> Result<u8> {
    let answer = context.device().call(&context.path, method, arguments).await?;
    context.output.value(&answer)?;
    Ok(SUCCESS)
}
