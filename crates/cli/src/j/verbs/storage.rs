//! Verbs of storage multiplexers: a medium that either the exporter's machine or the device has.
//!
//! Only exporters in Python have such drivers; they are told by their client class and called by
//! name.

use std::ffi::{OsStr, OsString};

use anyhow::Result;
use clap::{Arg, ArgMatches, Command};
use jumpstarter_driver_core::{Argument, Arguments, MethodKind};
use serde_json::json;

use super::Verb;
use crate::j::context::Context;
use crate::j::fault::SUCCESS;
use crate::j::image;
use crate::j::progress::Transfer;

/// The client classes of drivers that have these verbs.
pub(super) const CLIENTS: [&str; 2] = [
    "jumpstarter_driver_opendal.client.StorageMuxClient",
    "jumpstarter_driver_opendal.client.StorageMuxFlasherClient",
];

pub(super) static VERBS: &[Verb] = &[
    Verb {
        name: "host",
        command: |command| command.about("Gives the medium to the exporter's machine"),
        run: |context, _| Box::pin(call(context, "host")),
    },
    Verb {
        name: "dut",
        command: |command| command.about("Gives the medium to the device"),
        run: |context, _| Box::pin(call(context, "dut")),
    },
    Verb {
        name: "off",
        command: |command| command.about("Gives the medium to nobody"),
        run: |context, _| Box::pin(call(context, "off")),
    },
    Verb {
        name: "write",
        command: |command| {
            with_file(
                command.about("Writes an image to the medium"),
                "a file, a URL, or - for standard input",
            )
            .visible_alias("write-local-file")
            .after_help(
                "Example:\n  {path} host\n  {path} write os.img\n  {path} dut\n\nJSON: {\"file\", \"bytes\", \
                 \"seconds\", \"bytes_per_second\"}; the numbers are null where the exporter fetched it itself",
            )
        },
        run: |context, matches| Box::pin(write(context, matches)),
    },
    Verb {
        name: "read",
        command: |command| {
            with_file(command.about("Reads the medium into an image"), "a file, or - for standard output")
                .after_help(
                    "Example:\n  {path} read backup.img\n\nJSON: as of `write`; nothing when it goes to standard \
                     output",
                )
        },
        run: |context, matches| Box::pin(read(context, matches)),
    },
];

fn with_file(command: Command, help: &'static str) -> Command {
    command.arg(
        Arg::new("file")
            .value_name("FILE")
            .required(true)
            .value_parser(clap::value_parser!(OsString))
            .value_hint(clap::ValueHint::FilePath)
            .help(format!("The image: {help}")),
    )
}

async fn call(context: &Context, method: &str) -> Result<u8> {
    context.device.call(&context.path, method, Vec::new()).await?;
    context.output.done()
}

async fn write(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let file = matches.get_one::<OsString>("file").map_or(OsStr::new(""), OsString::as_os_str);
    let transfer = Transfer::start(image::label(file), context.output);
    let source = image::source(file)?.with_observer(transfer.observer());
    transferred(context, "write", file, Argument::Source(source), transfer).await
}

async fn read(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let file = matches.get_one::<OsString>("file").map_or(OsStr::new(""), OsString::as_os_str);
    let label = image::sink_label(file);
    let transfer = Transfer::start(format!("medium → {label}"), context.output);
    let sink = image::open_sink(file, context.output).await?.with_observer(transfer.observer());
    transferred(context, "read", file, Argument::Sink(sink), transfer).await
}

async fn transferred(
    context: &Context,
    method: &str,
    file: &OsStr,
    image: Argument,
    transfer: Transfer,
) -> Result<u8> {
    let to_standard_output = method == "read" && file == image::STANDARD_STREAM;
    let arguments: Arguments = [image].into_iter().collect();
    context.node()?.caller().invoke(method, MethodKind::Unary, arguments).await?;
    let summary = transfer.finish();
    if context.output.is_json() && !to_standard_output {
        context.output.value(&summary.of(json!({"file": file.to_string_lossy()}))?)?;
    }
    Ok(SUCCESS)
}
