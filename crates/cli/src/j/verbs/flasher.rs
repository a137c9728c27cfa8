//! Verbs of flashers.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::{Args, ValueEnum, ValueHint};
use jumpstarter_driver_core::image::Encoding;
use jumpstarter_driver_core::{Flasher, ImageSource, check_images};
use jumpstarter_driver_flasher::check_block_map;
use serde_json::json;

mod block_map;
mod folder;
mod oci;

use crate::fault::{Fault, Result, SUCCESS};
use crate::j::context::Context;
use crate::j::image::{self, STANDARD_STREAM};
use crate::j::progress::Transfer;
use crate::j::verb::{Say, Verb};

pub(super) static VERBS: &[Verb] = &[Verb::of::<Flash>(), Verb::of::<Dump>()];

/// An image: a file, URL or `-`, and its target, if that has a name.
type Named = (OsString, Option<String>);

/// The compression of an image.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Compression {
    Gzip,
    Xz,
    Bz2,
    Zstd,
}

impl From<Compression> for Encoding {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::Gzip => Self::Gzip,
            Compression::Xz => Self::Xz,
            Compression::Bz2 => Self::Bz2,
            Compression::Zstd => Self::Zstd,
        }
    }
}

/// Writes images
#[derive(Debug, Args)]
#[command(after_help = "\
Compressed images (gzip, xz, bzip2, zstd, lz4, lzma, lzip) are decompressed on the way. Ctrl-C keeps the old image.

Examples:
  {path} flash os.img.zst
  {path} flash https://images.example/os.qcow2 --sha256 9f86d081…
  {path} flash -t root:os.img -t bios=firmware.bin
  {path} flash images/
  zcat os.img.gz | {path} flash -

Several images are written one after the other, once all files and targets are checked. Of a folder each file is for
the target that it is named after, with or without extensions: images/rootfs.img.zst for rootfs.

The exporter fetches oci://REGISTRY/REPOSITORY:TAG with its own credentials (`podman login`). For s3://BUCKET/KEY
this command signs a request with the credentials of Amazon's variables and files, and the exporter uses it.

JSON, a line for each image: {\"file\", \"target\", \"bytes\", \"seconds\", \"bytes_per_second\"}; bytes is the size of
the file, null if an exporter in Python fetched it itself")]
struct Flash {
    /// The image: a file, an http(s), oci or s3 URL, or - for standard input; or a folder of images
    #[arg(required_unless_present = "target", value_hint = ValueHint::FilePath)]
    file: Option<OsString>,
    /// What to write where, also as NAME=FILE; may be repeated. With FILE, only the NAME
    #[arg(short, long, value_name = "NAME:FILE")]
    target: Vec<OsString>,
    /// The image's compression, if its first bytes do not show it
    #[arg(long, value_enum, ignore_case = true, value_name = "FORMAT")]
    compression: Option<Compression>,
    /// The block map of FILE, of `bmaptool create`, a file or URL: only mapped blocks are written,
    /// and their checksums are compared. Without it, FILE.bmap beside FILE is used, if it exists
    #[arg(long, value_name = "BMAP", value_hint = ValueHint::FilePath)]
    bmap: Option<OsString>,
    /// Ignores a block map beside FILE
    #[arg(long, conflicts_with = "bmap")]
    no_bmap: bool,
    /// Reads the image back from the medium, and compares it, before the flash succeeds
    #[arg(long)]
    verify: bool,
    /// The digest that FILE must have, as `sha256sum FILE` prints it; on a mismatch nothing changes
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
}

/// Reads an image back
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  {path} dump backup.img
  {path} dump --target bios - | sha256sum

JSON: {\"file\", \"target\", \"bytes\", \"seconds\", \"bytes_per_second\"}; nothing if the image goes to standard output")]
struct Dump {
    /// The destination: a file, which appears when it is complete, a pipe or device, or - for
    /// standard output
    #[arg(value_hint = ValueHint::FilePath)]
    file: OsString,
    /// What to read; without it, the driver's default
    #[arg(short, long, value_name = "NAME")]
    target: Option<String>,
    /// The compression of the file
    #[arg(long, value_enum, ignore_case = true, value_name = "FORMAT")]
    compression: Option<Compression>,
}

impl Say for Flash {
    const NAME: &'static str = "flash";

    async fn run(self, context: &Context) -> Result<u8> {
        let flasher = context.get::<dyn Flasher>()?;
        let images = match &self.file {
            Some(file) if is_folder(file) => {
                if !self.target.is_empty() {
                    let message = "a target for a folder of images";
                    return Err(Fault::usage(message, "name its file: --target NAME:FILE"));
                }
                self.refuse_for_several()?;
                folder::images(&*flasher, file).await?
            }
            _ => self.images()?,
        };
        if images.len() > 1 {
            self.refuse_for_several()?;
        }
        let is_python = context.node()?.interfaces_guessed();
        let mut sources = Vec::with_capacity(images.len());
        for (file, target) in &images {
            let source = self.source(file, is_python, context).await?;
            sources.push((target.clone().unwrap_or_default(), source));
        }
        // A missing file must not leave a device with a half of them.
        if images.len() > 1 || self.file.as_deref().is_some_and(is_folder) {
            check_images(&*flasher, &sources).await?;
        }
        for ((file, target), (_, source)) in images.into_iter().zip(sources) {
            let is_plain = self.sha256.is_none() && self.compression.is_none();
            // An exporter in Python does not fetch such images by itself.
            if let Some(image) = file.to_str().filter(|file| is_plain && image::is_oci(file))
                && is_python
                && oci::flash(context, image, target.as_deref()).await?
            {
                continue;
            }
            let label = match &target {
                Some(target) => format!("{} → {target}", image::label(&file)),
                None => image::label(&file),
            };
            let transfer = Transfer::start(label, &context.output);
            flasher.flash(source.with_observer(transfer.observer()), target.clone()).await?;
            report(context, transfer, &file, target)?;
        }
        Ok(SUCCESS)
    }
}

impl Say for Dump {
    const NAME: &'static str = "dump";

    async fn run(self, context: &Context) -> Result<u8> {
        let Self { file, target, compression } = self;
        let flasher = context.get::<dyn Flasher>()?;
        let label = image::sink_label(&file);
        let sink = image::open_sink(&file, &context.output).await?;
        let label = format!("{} → {label}", target.as_deref().unwrap_or("image"));
        let transfer = Transfer::start(label, &context.output);
        let mut sink = sink.with_observer(transfer.observer());
        if let Some(compression) = compression {
            sink = sink.with_encoding(compression.into());
        }
        flasher.dump(sink, target.clone()).await?;
        if file == STANDARD_STREAM {
            transfer.finish();
            return Ok(SUCCESS);
        }
        report(context, transfer, &file, target)?;
        Ok(SUCCESS)
    }
}

/// Whether the word names a folder.
fn is_folder(word: &OsStr) -> bool {
    word != STANDARD_STREAM && std::fs::metadata(word).is_ok_and(|found| found.is_dir())
}

impl Flash {
    /// Refuses what can only be of one image.
    fn refuse_for_several(&self) -> Result<()> {
        for (is_given, what) in
            [(self.sha256.is_some(), "digest"), (self.bmap.is_some(), "block map")]
        {
            if is_given {
                let message = format!("one {what} for several images");
                return Err(Fault::usage(message, "flash them one by one"));
            }
        }
        Ok(())
    }

    /// The image with its wishes.
    async fn source(
        &self,
        file: &OsStr,
        is_python: bool,
        context: &Context,
    ) -> Result<ImageSource> {
        let mut source = image::source(file).await?;
        if let Some(sha256) = &self.sha256 {
            source = source.expect_sha256(sha256).map_err(Fault::Usage)?;
        }
        if let Some(compression) = self.compression {
            source = source.with_encoding(compression.into());
        }
        if self.verify {
            source = source.verify();
        }
        match self.block_map(file, is_python, context).await? {
            Some(map) => Ok(source.with_block_map(map)),
            None => Ok(source),
        }
    }

    /// The text of the image's bmap file. Exporters in Python use none.
    async fn block_map(
        &self,
        file: &OsStr,
        is_python: bool,
        context: &Context,
    ) -> Result<Option<String>> {
        if let Some(path) = &self.bmap {
            let text = block_map::read(path).await?;
            check_block_map(&text)?;
            return Ok(Some(text));
        }
        if self.no_bmap || is_python {
            return Ok(None);
        }
        let Some((name, text)) = block_map::beside(file).await else { return Ok(None) };
        context.output.note(format!("using the block map {name}; --no-bmap ignores it"));
        check_block_map(&text)?;
        Ok(Some(text))
    }

    /// The images to flash, each with its target.
    fn images(&self) -> Result<Vec<Named>> {
        let is_separator = |byte: &u8| matches!(byte, b':' | b'=');
        match (&self.file, self.target.as_slice()) {
            (Some(file), []) => Ok(vec![(file.clone(), None)]),
            (Some(file), [name]) if !name.as_bytes().iter().any(is_separator) => {
                Ok(vec![(file.clone(), Some(name.to_string_lossy().into_owned()))])
            }
            (Some(_), _) => Err(Fault::usage(
                "both FILE and --target NAME:FILE say what to flash",
                "give FILE and --target NAME, or --target NAME:FILE for each image",
            )),
            (None, targets) => {
                let split = |spec: &OsString| {
                    let mut parts =
                        spec.as_bytes().splitn(2, is_separator).filter(|part| !part.is_empty());
                    match (parts.next(), parts.next()) {
                        (Some(name), Some(file)) => {
                            let name = String::from_utf8_lossy(name).into_owned();
                            Ok((OsStr::from_bytes(file).to_owned(), Some(name)))
                        }
                        _ => {
                            let spec = spec.display();
                            Err(Fault::usage(
                                format!("`{spec}` is no target with its image"),
                                "write NAME:FILE",
                            ))
                        }
                    }
                };
                targets.iter().map(split).collect()
            }
        }
    }
}

fn report(
    context: &Context,
    transfer: Transfer,
    file: &OsStr,
    target: Option<String>,
) -> Result<()> {
    let summary = transfer.finish();
    if context.output.is_json() {
        context
            .output
            .value(&summary.of(json!({"file": file.to_string_lossy(), "target": target}))?)?;
    }
    Ok(())
}
