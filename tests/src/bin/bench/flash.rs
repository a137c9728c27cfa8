//! Flashing beside the tools: decompress into a file and sync it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::Command;

use crate::data::{Codec, Data};
use crate::measure::{finish, shell, timed};
use crate::table::{Row, Target};

/// What has to be known to read the table.
pub(crate) const NOTES: &[&str] = &[
    "raw: random bytes, so that both write every block; the codecs: random hexadecimal digits, which compress to about \
     half and hold no run of zeros",
    "what both write is compared first; everybody reads from the page cache, writes a new file in the same folder and ends it with fsync; ours also \
     renames it into place; the start of the process is included",
    "sha256: ours decompresses, writes, syncs and hashes; openssl reads and hashes only",
    "medians; turns alternate",
];

/// The example of the crate that runs the pipeline, as `cargo xtask bench` builds it.
const PROGRAM: &str = "target/release/examples/flash_bench";

/// The table's title.
pub(crate) fn title(size: ByteSize) -> String {
    format!("Flash of {size}")
}

/// One comparison.
struct Case<'a> {
    what: &'a str,
    other: &'a str,
    input: &'a Path,
    /// The other tool, from `"$1"` to `"$2"`.
    line: &'a str,
    sha256: bool,
}

/// Measures every case.
pub(crate) async fn measure(turns: u32, size: ByteSize) -> Result<Vec<Row>> {
    if !Path::new(PROGRAM).is_file() {
        let message = format!("{PROGRAM} is not built");
        return Err(Error::failed_precondition(message).with_hint("run `cargo xtask bench`"));
    }
    let folder = PathBuf::from("target/bench");
    let data = Data::new(&folder, size)?;
    let random = data.random()?;
    let [zstd, gzip, xz] = [
        data.compressed(Codec::Zstd).await?,
        data.compressed(Codec::Gzip).await?,
        data.compressed(Codec::Xz).await?,
    ];
    let cases = [
        case(
            "raw",
            "dd bs=1M conv=fsync",
            &random,
            r#"dd if="$1" of="$2" bs=1M conv=fsync status=none"#,
        ),
        case("zstd", "zstd -d", &zstd, r#"zstd -q -d -c "$1" > "$2" && sync "$2""#),
        case("gzip", "gzip -d", &gzip, r#"gzip -d -c < "$1" > "$2" && sync "$2""#),
        case("xz", "xz -d", &xz, r#"xz -d -c < "$1" > "$2" && sync "$2""#),
        Case {
            sha256: true,
            ..case("raw, with sha256", "openssl dgst", &random, r#"openssl dgst -sha256 "$1""#)
        },
    ];
    let outputs = data.outputs()?;
    let mut rows = Vec::new();
    for case in &cases {
        rows.push(
            case.measure(turns, outputs.path(), size)
                .await
                .with_context(|| format!("measuring {}", case.what))?,
        );
    }
    Ok(rows)
}

fn case<'a>(what: &'a str, other: &'a str, input: &'a Path, line: &'a str) -> Case<'a> {
    Case { what, other, input, line, sha256: false }
}

impl Case<'_> {
    async fn measure(&self, turns: u32, folder: &Path, size: ByteSize) -> Result<Row> {
        self.compare(folder).await?;
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for turn in 0..turns {
            // Who is first changes, too: the first may find the disk busy with what was removed
            // before.
            if turn % 2 == 0 {
                ours.push(self.ours(folder, size).await?);
                theirs.push(self.theirs(folder).await?);
            } else {
                theirs.push(self.theirs(folder).await?);
                ours.push(self.ours(folder, size).await?);
            }
        }
        Ok(Row::of_times(self.what, self.other, [ours, theirs], Target::AtLeast(0.9)))
    }

    /// Both once without the clock: the input is in the page cache then, and what they write must
    /// be the same.
    async fn compare(&self, folder: &Path) -> Result<()> {
        let (ours, theirs) = (folder.join("ours"), folder.join("theirs"));
        finish(self.command(&ours)).await?;
        finish(shell(self.line, [self.input, &theirs])).await?;
        // What only hashes writes nothing: the image is raw then.
        let expected = if theirs.exists() { &theirs } else { self.input };
        finish(shell(r#"cmp "$1" "$2""#, [&ours, expected]))
            .await
            .context("comparing what was written")?;
        remove(&ours)?;
        remove(&theirs)
    }

    fn command(&self, output: &Path) -> Command {
        let command = Command::new(PROGRAM).arg("flash").arg(self.input).arg(output);
        if self.sha256 { command.arg("--sha256") } else { command }
    }

    async fn ours(&self, folder: &Path, size: ByteSize) -> Result<Duration> {
        let output = folder.join("ours");
        let time = timed(self.command(&output)).await?;
        let length = fs::metadata(&output)?.len();
        if length != size.as_bytes() / 8 * 8 {
            return Err(Error::data_loss(format!(
                "{length} bytes were written, of {}",
                size.as_bytes()
            )));
        }
        remove(&output)?;
        Ok(time)
    }

    async fn theirs(&self, folder: &Path) -> Result<Duration> {
        let output = folder.join("theirs");
        let time = timed(shell(self.line, [self.input, &output])).await?;
        remove(&output)?;
        Ok(time)
    }
}

/// Removes a file that a tool may not have written.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
