//! The images that are flashed, made once and kept in `target/bench`.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use jumpstarter_driver_core::prelude::*;

use crate::measure::{finish, shell};

/// The files of one size.
#[derive(Debug)]
pub(crate) struct Data {
    /// Random bytes: nothing can be left out, so that everybody writes the same.
    pub(crate) random: PathBuf,
    /// Random hexadecimal digits, by codec: what is compressed to about half, with no runs that could become holes.
    pub(crate) zstd: PathBuf,
    pub(crate) gzip: PathBuf,
    pub(crate) xz: PathBuf,
}

impl Data {
    /// Makes what is not there yet; takes minutes the first time.
    pub(crate) async fn prepare(folder: &Path, size: ByteSize) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let file = |name: &str| folder.join(format!("{name}-{}", size.as_bytes()));
        let (random, digits) = (file("random"), file("digits"));
        let data = Self { random: random.clone(), zstd: file("zst"), gzip: file("gz"), xz: file("xz") };
        for (path, line) in [
            (&data.zstd, r#"zstd -q -3 -c "$1" > "$2""#),
            (&data.gzip, r#"gzip -6 -c "$1" > "$2""#),
            // Blocks of one thread each would be decompressed in parallel by some: it is one stream here.
            (&data.xz, r#"xz -0 -T1 -c "$1" > "$2""#),
        ] {
            if path.exists() {
                continue;
            }
            if !digits.exists() {
                write_whole(&digits, size, |word| {
                    let nibble = |shift: u32| b"0123456789abcdef"[(word >> shift) as usize & 15];
                    std::array::from_fn(|at| nibble(at as u32 * 4))
                })?;
            }
            let part = path.with_extension("part");
            finish(shell(line, [digits.as_path(), &part])).await?;
            fs::rename(&part, path)?;
        }
        if digits.exists() {
            fs::remove_file(&digits)?;
        }
        if !random.exists() {
            write_whole(&random, size, u64::to_le_bytes)?;
        }
        Ok(data)
    }
}

/// Writes a file of `size` from pseudo-random words (xorshift64*), under its name only when it is whole.
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
