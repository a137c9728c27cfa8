//! Verbs of servers of a folder, whose child `storage` has the files.

use std::ffi::OsString;

use clap::{Args, ValueHint};
use jumpstarter_driver_core::storage::write_file;
use jumpstarter_driver_core::{ImageSource, Interface, Storage};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::fault::{Result, SUCCESS};
use crate::j::context::Context;
use crate::j::image;
use crate::j::progress::Transfer;
use crate::j::verb::{Say, Verb};

pub(super) static VERBS: &[Verb] = &[Verb::of::<PutFile>()];

/// The child that has the files.
const STORAGE: &str = "storage";
/// What stands in the path of a URL as it is.
const KEPT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Puts a file into the folder that is served, and prints its URL
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  {path} put-file boot/zImage build/zImage && {path} start

JSON: {\"url\", \"file\", \"bytes\", \"seconds\", \"bytes_per_second\"}; the URL is null while the server has no port, and
the numbers are null if the exporter fetched the file itself")]
struct PutFile {
    /// The file as the device asks for it
    dst: String,
    /// The source: a file, a URL, or - for standard input
    #[arg(value_hint = ValueHint::FilePath)]
    src: OsString,
}

impl Say for PutFile {
    const NAME: &'static str = "put-file";

    async fn run(self, context: &Context) -> Result<u8> {
        let storage = context.device().node(&context.child(STORAGE))?.caller().clone();
        let transfer = Transfer::start(image::label(&self.src), &context.output);
        let source: ImageSource = image::source(&self.src).await?;
        let source = source.with_observer(transfer.observer());
        write_file(&*<dyn Storage>::remote(storage), &self.dst, source).await?;
        let summary = transfer.finish();
        let path = utf8_percent_encode(self.dst.trim_start_matches('/'), KEPT);
        let url = base(context).await?.map(|base| format!("{base}/{path}"));
        match (context.output.is_json(), url) {
            (true, url) => {
                let about = json!({"url": url, "file": self.src.to_string_lossy()});
                context.output.value(&summary.of(about)?)?;
            }
            (false, Some(url)) => context.output.value(&url.into())?,
            (false, None) => context.output.note("it has no URL before the server is started"),
        }
        Ok(SUCCESS)
    }
}

/// The URL of the folder; `None` while the server has no port.
async fn base(context: &Context) -> Result<Option<String>> {
    let ask = async |method: &str| context.device().call(&context.path, method, Vec::new()).await;
    let (host, port) = (ask("get_host").await?, ask("get_port").await?);
    let is_http = context.node()?.interfaces().iter().any(|found| found.name == "http_server");
    let (scheme, default) = if is_http { ("http", 80) } else { ("tftp", 69) };
    let host = host.as_str().unwrap_or_default();
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    Ok(match port.as_u64() {
        None | Some(0) => None,
        Some(port) if port == default => Some(format!("{scheme}://{host}")),
        Some(port) => Some(format!("{scheme}://{host}:{port}")),
    })
}
