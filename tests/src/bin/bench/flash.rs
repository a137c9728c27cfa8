//! Flashing beside the tools: decompress into a file and sync it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::{Command, run, run_blocking};

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
    "verify: both read the image back past the page cache and compare it; bmap: half of the image is mapped; \
     loop device: of a file in the same folder, both write it in place",
    "the rows with bmap and loop device are left out where bmaptool or losetup do not run",
    "medians; turns alternate",
];

/// The example of the crate that runs the pipeline, as `cargo xtask bench` builds it.
const PROGRAM: &str = "target/release/examples/flash_bench";

/// How long a loop device may take to come and go.
const ATTACH_LIMIT: Duration = Duration::from_secs(30);

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
    /// Ours.
    options: Vec<&'a str>,
    /// Both write to it in place of files.
    device: Option<&'a Path>,
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
    let outputs = data.outputs()?;
    let mapped = data.mapped().await?;
    let card = Loop::new(&outputs.path().join("card"), data.bytes()).await?;
    let mut cases = vec![
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
            options: vec!["--sha256"],
            ..case("raw, with sha256", "openssl dgst", &random, r#"openssl dgst -sha256 "$1""#)
        },
        Case {
            options: vec!["--verify"],
            ..case(
                "raw, with verify",
                "dd, dd iflag=direct, cmp",
                &random,
                r#"dd if="$1" of="$2" bs=1M conv=fsync status=none &&
                   dd if="$2" bs=1M iflag=direct status=none | cmp - "$1""#,
            )
        },
    ];
    let copy;
    if let Some([image, map]) = &mapped {
        let map = map.to_str().ok_or_else(|| Error::internal("the folder is no text"))?;
        copy = format!(r#"bmaptool -q copy --bmap '{map}' "$1" "$2" && sync "$2""#);
        cases.push(Case {
            options: vec!["--bmap", map],
            ..case("raw, with bmap", "bmaptool copy", image, &copy)
        });
    }
    if let Some(card) = &card {
        let line = r#"dd if="$1" of="$2" bs=1M conv=fsync status=none"#;
        cases.push(Case {
            device: Some(&card.0),
            ..case("raw, loop device", "dd bs=1M conv=fsync", &random, line)
        });
    }
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
    Case { what, other, input, line, options: Vec::new(), device: None }
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
        let (ours, theirs) = (self.output(folder, "ours"), self.output(folder, "theirs"));
        let same = async |written: &Path, expected: &Path| {
            let length = fs::metadata(self.input)?.len().to_string();
            let compare = Command::new("cmp").args(["-n", &length]).arg(written).arg(expected);
            finish(compare).await.context("comparing what was written")
        };
        finish(self.command(&ours)).await?;
        if self.device.is_some() {
            same(&ours, self.input).await?;
        }
        finish(shell(self.line, [self.input, &theirs])).await?;
        // What only hashes writes nothing: the image is raw then.
        let expected = if theirs.exists() { &theirs } else { self.input };
        match self.device {
            Some(_) => same(&theirs, self.input).await?,
            None => finish(shell(r#"cmp "$1" "$2""#, [&ours, expected]))
                .await
                .context("comparing what was written")?,
        }
        self.remove(&ours)?;
        self.remove(&theirs)
    }

    fn output(&self, folder: &Path, whose: &str) -> PathBuf {
        self.device.map_or_else(|| folder.join(whose), Path::to_owned)
    }

    fn command(&self, output: &Path) -> Command {
        Command::new(PROGRAM).arg("flash").arg(self.input).arg(output).args(&self.options)
    }

    async fn ours(&self, folder: &Path, size: ByteSize) -> Result<Duration> {
        let output = self.output(folder, "ours");
        let time = timed(self.command(&output)).await?;
        let length = fs::metadata(&output)?.len();
        if self.device.is_none() && length != size.as_bytes() / 8 * 8 {
            return Err(Error::data_loss(format!(
                "{length} bytes were written, of {}",
                size.as_bytes()
            )));
        }
        self.remove(&output)?;
        Ok(time)
    }

    async fn theirs(&self, folder: &Path) -> Result<Duration> {
        let output = self.output(folder, "theirs");
        let time = timed(shell(self.line, [self.input, &output])).await?;
        self.remove(&output)?;
        Ok(time)
    }

    /// Removes a file that a tool may not have written.
    fn remove(&self, path: &Path) -> Result<()> {
        if self.device.is_some() {
            return Ok(());
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// A loop device; dropping it detaches it.
struct Loop(PathBuf);

impl Loop {
    /// One of a new file; `None` where there are no loop devices.
    async fn new(file: &Path, length: u64) -> Result<Option<Self>> {
        fs::File::create(file)?.set_len(length)?;
        let attach = Command::new("losetup").args(["--find", "--show"]).arg(file);
        match run(attach, ATTACH_LIMIT).await {
            Ok(output) => Ok(Some(Self(output.stdout_text().trim().into()))),
            Err(error) => {
                tracing::warn!(%error, "no row with a loop device");
                Ok(None)
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let detach = Command::new("losetup").arg("--detach").arg(&self.0);
        if let Err(error) = run_blocking(detach, ATTACH_LIMIT) {
            tracing::warn!(%error, "a loop device stays");
        }
    }
}
