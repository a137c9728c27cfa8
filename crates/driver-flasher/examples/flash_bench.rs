//! The pipeline's speed: `flash_bench flash|stream INPUT OUTPUT [--sha256]` prints the seconds it
//! took.
//!
//! `flash` reads the file itself, `stream` gets it as an exporter would, in pieces from memory; the
//! output is decompressed, synced and renamed. `cargo xtask bench` runs it beside dd, gzip, xz,
//! zstd and openssl.

use jumpstarter_driver_core::{Error, ImageSource, Result};
use jumpstarter_driver_flasher::{WriteOptions, write_image};
use std::path::Path;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the result is what the program is for")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage =
        || Error::invalid_argument("usage: flash_bench flash|stream INPUT OUTPUT [--sha256]");
    let [kind, input, output, rest @ ..] = arguments.as_slice() else { return Err(usage()) };
    let mut source = match kind.as_str() {
        "flash" => ImageSource::path(input),
        "stream" => {
            let file = tokio::fs::File::open(input).await?;
            let length = file.metadata().await?.len();
            ImageSource::reader(file, Some(length))
        }
        _ => return Err(usage()),
    };
    if rest.iter().any(|argument| argument == "--sha256") {
        source = source.report_sha256().0;
    }
    let report = write_image(source, Path::new(output), WriteOptions::default()).await?;
    println!("{:.3} s, {report:?}", report.elapsed.as_secs_f64());
    Ok(())
}
