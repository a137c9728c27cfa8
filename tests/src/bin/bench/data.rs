//! The images that are flashed, made once and kept in `target/bench`.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use jumpstarter_driver_core::prelude::*;
use tempfile::TempDir;

use crate::measure::{finish, shell};

/// The files of one size.
#[derive(Debug)]
pub(crate) struct Data {
    folder: PathBuf,
    size: ByteSize,
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Zstd,
    Gzip,
    Xz,
}

impl Codec {
    /// The name of the encoding.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
        }
    }

    /// The suffix of files, and the tool's line that makes `"$2"` from `"$1"`.
    fn tool(self) -> (&'static str, &'static str) {
        match self {
            Self::Zstd => ("zst", r#"zstd -q -3 -c "$1" > "$2""#),
            Self::Gzip => ("gz", r#"gzip -6 -c "$1" > "$2""#),
            // Blocks of one thread each would be decompressed in parallel by some: it is one stream
            // here.
            Self::Xz => ("xz", r#"xz -0 -T1 -c "$1" > "$2""#),
        }
    }
}

impl Data {
    /// Images of `size`; none is made yet.
    pub(crate) fn new(folder: &Path, size: ByteSize) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(Self { folder: folder.to_owned(), size })
    }

    /// The size of the images, in whole words.
    pub(crate) fn bytes(&self) -> u64 {
        self.size.as_bytes() / 8 * 8
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}-{}", self.size.as_bytes()))
    }

    /// Random bytes: nothing can be left out, so that everybody writes the same.
    pub(crate) fn random(&self) -> Result<PathBuf> {
        let path = self.file("random");
        if !path.exists() {
            write_whole(&path, self.size, u64::to_le_bytes)?;
        }
        Ok(path)
    }

    /// Random hexadecimal digits: they compress to about half, with no runs that could become
    /// holes. Takes minutes the first time.
    pub(crate) async fn compressed(&self, codec: Codec) -> Result<PathBuf> {
        let (suffix, line) = codec.tool();
        let path = self.file(suffix);
        if path.exists() {
            return Ok(path);
        }
        let digits = self.file("digits");
        write_whole(&digits, self.size, |word| {
            let nibble = |shift: u32| b"0123456789abcdef"[(word >> shift) as usize & 15];
            std::array::from_fn(|at| nibble(at as u32 * 4))
        })?;
        let part = path.with_extension("part");
        finish(shell(line, [digits.as_path(), &part])).await?;
        fs::rename(&part, &path)?;
        fs::remove_file(&digits)?;
        Ok(path)
    }

    /// The first half of the random bytes with as much of holes, in turns of 16 MiB, and its block
    /// map; `None` if there is no bmaptool.
    pub(crate) async fn mapped(&self) -> Result<Option<[PathBuf; 2]>> {
        const TURN: u64 = 16 << 20;
        let (path, map) = (self.file("mapped"), self.file("bmap"));
        if !map.exists() {
            let (from, mut to) = (File::open(self.random()?)?, File::create(&path)?);
            to.set_len(self.bytes())?;
            let mut offset = 0;
            while offset < self.bytes() {
                to.seek(SeekFrom::Start(offset))?;
                io::copy(&mut (&from).take(TURN.min(self.bytes() - offset)), &mut to)?;
                offset += 2 * TURN;
            }
            let line = r#"bmaptool -q create -o "$2" "$1""#;
            if let Err(error) = finish(shell(line, [path.as_path(), &map])).await {
                tracing::warn!(error = %error.report(), "no row with a block map");
                return Ok(None);
            }
        }
        Ok(Some([path, map]))
    }

    /// A folder on the same disk for what is written, removed with the value, also when its user is
    /// cancelled.
    pub(crate) fn outputs(&self) -> Result<TempDir> {
        // What a bench that was killed left may be large.
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("output-")) {
                fs::remove_dir_all(&path)?;
            }
        }
        Ok(tempfile::Builder::new().prefix("output-").tempdir_in(&self.folder)?)
    }
}

/// Writes a file of `size` from pseudo-random words (xorshift64*), under its name only when it is
/// whole.
fn write_whole(path: &Path, size: ByteSize, piece: impl Fn(u64) -> [u8; 8]) -> Result<()> {
    let part = path.with_extension("part");
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&part)?);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..size.as_bytes() / 8 {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        file.write_all(&piece(state.wrapping_mul(0x2545_f491_4f6c_dd1d)))?;
    }
    file.flush()?;
    fs::rename(&part, path).with_context(|| format!("writing {}", path.display()))
}
