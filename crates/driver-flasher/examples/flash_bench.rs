//! The pipeline's speed: `flash_bench flash|stream INPUT OUTPUT [OPTION]` prints the seconds it
//! took. The options are `--sha256`, `--verify` and `--bmap FILE`.
//!
//! `flash` reads the file itself, `stream` gets it as an exporter would, in pieces from memory; the
//! output is decompressed, synced and renamed. `cargo xtask bench` runs it beside dd, gzip, xz,
//! zstd, bmaptool and openssl.

use jumpstarter_driver_core::{Error, ImageSource, Result};
use jumpstarter_driver_flasher::{WriteOptions, write_image};
use std::path::Path;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the result is what the program is for")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = || Error::invalid_argument("usage: flash_bench flash|stream INPUT OUTPUT [OPTION]");
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
    source = match rest {
        [] => source,
        [option] if option == "--sha256" => source.report_sha256().0,
        [option] if option == "--verify" => source.verify(),
        [option, map] if option == "--bmap" => source.with_block_map(std::fs::read_to_string(map)?),
        _ => return Err(usage()),
    };
    let report = write_image(source, Path::new(output), WriteOptions::default()).await?;
    println!("{:.3} s, {report:?}", report.elapsed.as_secs_f64());
    Ok(())
}
