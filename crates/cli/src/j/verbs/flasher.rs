//! Verbs of flashers.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use jumpstarter_driver_core::Flasher;
use jumpstarter_driver_core::image::Encoding;
use serde_json::json;

mod oci;

use super::Verb;
use crate::j::context::Context;
use crate::j::fault::{Fault, SUCCESS};
use crate::j::image::{self, STANDARD_STREAM};
use crate::j::progress::Transfer;

pub(super) static VERBS: &[Verb] = &[
    Verb {
        name: "flash",
        command: flash_command,
        run: |context, matches| Box::pin(flash(context, matches)),
    },
    Verb {
        name: "dump",
        command: dump_command,
        run: |context, matches| Box::pin(dump(context, matches)),
    },
];

fn flash_command(command: Command) -> Command {
    command
        .about("Writes images")
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .required_unless_present("target")
                .value_parser(value_parser!(OsString))
                .help("The image: a file, an http(s) URL, or - for standard input")
                .value_hint(clap::ValueHint::FilePath),
        )
        .arg(
            Arg::new("target")
                .short('t')
                .long("target")
                .value_name("NAME:FILE")
                .action(ArgAction::Append)
                .value_parser(value_parser!(OsString))
                .help("What to write where; may be repeated. With FILE, the NAME alone"),
        )
        .arg(compression("How the image is compressed, where that cannot be told from its first bytes"))
        .arg(
            Arg::new("sha256")
                .long("sha256")
                .value_name("HEX")
                .help("The digest that FILE must have, as `sha256sum FILE` prints it; otherwise nothing changes"),
        )
        .after_help(
            "\
Compressed images (gzip, xz, bzip2, zstd) are decompressed on the way. Ctrl-C leaves the old image.

Examples:
  {path} flash os.img.zst
  {path} flash https://images.example/os.qcow2 --sha256 9f86d081…
  {path} flash -t root:os.img -t bios:firmware.bin
  zcat os.img.gz | {path} flash -

An exporter in Python fetches oci:// images for its virtual machines, too, and prints what it does.

JSON, a line for each image: {\"file\", \"target\", \"bytes\", \"seconds\", \"bytes_per_second\"}; bytes are those of
the file, null where an exporter in Python fetched it itself",
        )
}

fn dump_command(command: Command) -> Command {
    command
        .about("Reads an image back")
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .required(true)
                .value_parser(value_parser!(OsString))
                .help("Where it goes: a file, which appears when it is whole, a pipe or device, or - for standard output")
                .value_hint(clap::ValueHint::FilePath),
        )
        .arg(
            Arg::new("target")
                .short('t')
                .long("target")
                .value_name("NAME")
                .help("What to read; the driver's default without it"),
        )
        .arg(compression("Compress it"))
        .after_help(
            "\
Examples:
  {path} dump backup.img
  {path} dump --target bios - | sha256sum

JSON: {\"file\", \"target\", \"bytes\", \"seconds\", \"bytes_per_second\"}; nothing when it goes to standard output",
        )
}

fn compression(help: &'static str) -> Arg {
    Arg::new("compression")
        .long("compression")
        .value_name("FORMAT")
        .ignore_case(true)
        .value_parser(["gzip", "xz", "bz2", "zstd"])
        .help(help)
}

fn encoding(matches: &ArgMatches) -> Result<Option<Encoding>> {
    let name = matches.get_one::<String>("compression").map(|name| name.to_lowercase());
    Ok(name.map(|name| name.parse().map_err(Fault::Usage)).transpose()?)
}

/// What is to be flashed where.
fn images(matches: &ArgMatches) -> Result<Vec<(OsString, Option<String>)>> {
    let targets: Vec<&OsString> = matches.get_many("target").into_iter().flatten().collect();
    match (matches.get_one::<OsString>("file"), targets.as_slice()) {
        (Some(file), []) => Ok(vec![(file.clone(), None)]),
        (Some(file), [name]) if !name.as_bytes().contains(&b':') => {
            Ok(vec![(file.clone(), Some(name.to_string_lossy().into_owned()))])
        }
        (Some(_), _) => Err(Fault::usage(
            "both FILE and --target NAME:FILE say what to flash",
            "give FILE and --target NAME, or --target NAME:FILE for each image",
        )),
        (None, targets) => {
            let split = |spec: &&OsString| {
                let mut parts =
                    spec.as_bytes().splitn(2, |byte| *byte == b':').filter(|part| !part.is_empty());
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

async fn flash(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let images = images(matches)?;
    let sha256 = matches.get_one::<String>("sha256");
    if sha256.is_some() && images.len() > 1 {
        return Err(Fault::usage("one digest for several images", "flash them one by one"));
    }
    let flasher = context.get::<dyn Flasher>()?;
    for (file, target) in images {
        if let Some(image) = file.to_str().filter(|file| image::is_oci(file)) {
            oci::flash(context, image, target.as_deref()).await?;
            continue;
        }
        let label = match &target {
            Some(target) => format!("{} → {target}", image::label(&file)),
            None => image::label(&file),
        };
        let mut source = image::source(&file)?;
        if let Some(sha256) = sha256 {
            source = source.expect_sha256(sha256).map_err(Fault::Usage)?;
        }
        if let Some(encoding) = encoding(matches)? {
            source = source.with_encoding(encoding);
        }
        let transfer = Transfer::start(label, context.output);
        flasher.flash(source.with_observer(transfer.observer()), target.clone()).await?;
        report(context, transfer, &file, target)?;
    }
    Ok(SUCCESS)
}

async fn dump(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let file: OsString = matches.get_one("file").cloned().unwrap_or_default();
    let target: Option<String> = matches.get_one("target").cloned();
    let flasher = context.get::<dyn Flasher>()?;
    let label = image::sink_label(&file);
    let sink = image::open_sink(&file, context.output).await?;
    let transfer = Transfer::start(
        format!("{} → {label}", target.as_deref().unwrap_or("image")),
        context.output,
    );
    let mut sink = sink.with_observer(transfer.observer());
    if let Some(encoding) = encoding(matches)? {
        sink = sink.with_encoding(encoding);
    }
    flasher.dump(sink, target.clone()).await?;
    if file == STANDARD_STREAM {
        transfer.finish();
        return Ok(SUCCESS);
    }
    report(context, transfer, &file, target)?;
    Ok(SUCCESS)
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
