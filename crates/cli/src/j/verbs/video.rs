//! Verbs of cameras.

use std::ffi::OsString;
use std::pin::pin;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use jumpstarter_driver_core::Error;
use jumpstarter_driver_video::{Video, VideoServer, jpeg_size};
use serde_json::json;

use crate::fault::{Result, SUCCESS};
use crate::j::browser::Browser;
use crate::j::context::Context;
use crate::j::image;
use crate::j::verb::{Say, Verb};

pub(super) static VERBS: &[Verb] = &[Verb::of::<Snapshot>(), Verb::of::<Stream>()];

/// Takes a picture, as JPEG
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  {path} snapshot
  {path} snapshot -o - | display

JSON: {\"file\", \"width\", \"height\"}; nothing with -o -")]
struct Snapshot {
    /// Where the picture goes: a file, or - for standard output
    #[arg(short, long, value_name = "FILE", default_value = "snapshot.jpg")]
    output: OsString,
}

impl Say for Snapshot {
    const NAME: &'static str = "snapshot";

    async fn run(self, context: &Context) -> Result<u8> {
        let mut sink = image::open_sink(&self.output, &context.output).await?;
        let text = context.get::<dyn Video>()?.snapshot().await?;
        let file = STANDARD.decode(text);
        let file = file.map_err(|_| Error::data_loss("the exporter's picture is not base64"))?;
        let (width, height) = jpeg_size(&file).unzip();
        sink.write(file).await?;
        sink.finish().await?;
        if self.output != image::STANDARD_STREAM {
            let name = image::sink_label(&self.output);
            let value =
                json!({ "file": self.output.to_string_lossy(), "width": width, "height": height });
            let size = width.zip(height).map(|(width, height)| format!(": {width}x{height}"));
            context.output.answer(&value, format_args!("{name}{}", size.unwrap_or_default()))?;
        }
        Ok(SUCCESS)
    }
}

/// Makes the camera a page of this machine, with its stream
#[derive(Debug, Args)]
#[command(after_help = "\
Prints the URL once it can be opened; /stream is the stream alone (MJPEG), /snapshot a picture. Ctrl-C ends it.

Examples:
  {path} stream
  {path} stream -p 8080 --no-browser
  mpv http://127.0.0.1:8080/stream

JSON: {\"url\", \"host\", \"port\"}")]
struct Stream {
    /// The port of 127.0.0.1; 0 takes a free one
    #[arg(short, long, default_value_t = 0)]
    port: u16,
    #[command(flatten)]
    browser: Browser,
}

impl Say for Stream {
    const NAME: &'static str = "stream";

    async fn run(self, context: &Context) -> Result<u8> {
        let mut server = VideoServer::start(context.get::<dyn Video>()?, self.port).await?;
        let address = server.address();
        let url = format!("http://{address}/");
        let value = json!({ "url": url, "host": address.ip().to_string(), "port": address.port() });
        // Before the URL is shown: a user who reads it may press Ctrl-C at once.
        let mut interrupted = pin!(context.interrupted());
        context.output.answer(&value, &url)?;
        let _browser = self.browser.open(context, &url).await;
        loop {
            tokio::select! {
                () = &mut interrupted => return Ok(SUCCESS),
                error = server.failure() => context.output.note(format_args!("{error:#}")),
            }
        }
    }
}
