//! Verbs of storage multiplexers: a medium that either the exporter's host or the device has.

use std::ffi::{OsStr, OsString};

use clap::{Args, ValueHint};
use jumpstarter_driver_core::{Argument, Arguments, MethodKind};
use serde_json::json;

use crate::fault::{Result, SUCCESS};
use crate::j::context::Context;
use crate::j::image;
use crate::j::progress::Transfer;
use crate::j::verb::{Say, Verb};

pub(super) static VERBS: &[Verb] = &[
    Verb::of::<Host>(),
    Verb::of::<Dut>(),
    Verb::of::<Off>(),
    Verb::of::<Write>(),
    Verb::of::<Read>(),
];

/// Connects the medium to the exporter's host
#[derive(Debug, Args)]
struct Host {}

impl Say for Host {
    const NAME: &'static str = "host";

    async fn run(self, context: &Context) -> Result<u8> {
        call(context, Self::NAME).await
    }
}

/// Connects the medium to the device
#[derive(Debug, Args)]
struct Dut {}

impl Say for Dut {
    const NAME: &'static str = "dut";

    async fn run(self, context: &Context) -> Result<u8> {
        call(context, Self::NAME).await
    }
}

/// Disconnects the medium from both
#[derive(Debug, Args)]
struct Off {}

impl Say for Off {
    const NAME: &'static str = "off";

    async fn run(self, context: &Context) -> Result<u8> {
        call(context, Self::NAME).await
    }
}

async fn call(context: &Context, method: &str) -> Result<u8> {
    context.device().call(&context.path, method, Vec::new()).await?;
    context.output.done()
}

/// Writes an image to the medium
#[derive(Debug, Args)]
#[command(
    visible_alias = "write-local-file",
    after_help = "\
Example:
  {path} host
  {path} write os.img
  {path} dut

JSON: {\"file\", \"bytes\", \"seconds\", \"bytes_per_second\"}; the numbers are null if the exporter fetched the image itself"
)]
struct Write {
    /// The image: a file, a URL, or - for standard input
    #[arg(value_hint = ValueHint::FilePath)]
    file: OsString,
}

impl Say for Write {
    const NAME: &'static str = "write";

    async fn run(self, context: &Context) -> Result<u8> {
        let file = &self.file;
        let transfer = Transfer::start(image::label(file), &context.output);
        let source = image::source(file).await?.with_observer(transfer.observer());
        transferred(context, Self::NAME, file, Argument::Source(source), transfer).await
    }
}

/// Reads the medium into an image
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  {path} read backup.img

JSON: as of `write`; nothing if the image goes to standard output")]
struct Read {
    /// The image: a file, or - for standard output
    #[arg(value_hint = ValueHint::FilePath)]
    file: OsString,
}

impl Say for Read {
    const NAME: &'static str = "read";

    async fn run(self, context: &Context) -> Result<u8> {
        let file = &self.file;
        let label = image::sink_label(file);
        let transfer = Transfer::start(format!("medium → {label}"), &context.output);
        let sink = image::open_sink(file, &context.output).await?;
        let sink = sink.with_observer(transfer.observer());
        transferred(context, Self::NAME, file, Argument::Sink(sink), transfer).await
    }
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
