//! A short run of what the fuzz target `decoders` does at length: damaged files, read in one piece
//! and in many.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

use std::io::{BufReader, Read};
use std::time::{Duration, Instant};

use jumpstarter_codec::{Compression, Memory};
use jumpstarter_driver_core::ByteSize;

const LIMIT: usize = 1 << 18;
const TIME: Duration = Duration::from_secs(1);

/// Numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end.max(1)
    }
}

/// A file with a few things wrong.
fn damaged(file: &[u8], random: &mut Random) -> Vec<u8> {
    let mut file = file.to_vec();
    for _ in 0..=random.below(4) {
        let (at, other) = (random.below(file.len()), random.below(file.len()));
        let (from, to) = (at.min(other), at.max(other));
        match random.below(7) {
            0 if !file.is_empty() => file[at] ^= 1 << random.below(8),
            1 if !file.is_empty() => file[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            2 => file.truncate(at),
            3 => file.insert(at.min(file.len()), random.below(256) as u8),
            4 => drop(file.drain(from..to.min(from + 9))),
            5 => file.extend_from_within(from..to.min(from + 400)),
            _ => file.resize(file.len() + random.below(40), 0),
        }
    }
    file
}

/// What is in a file; `None` where it is more than one likes to wait for.
fn decoded(compression: Compression, file: &[u8], piece: usize) -> Option<Result<Vec<u8>, ()>> {
    let memory = Memory::limited(ByteSize::mebibytes(16));
    let mut plain = Vec::new();
    let decoder = compression.decoder(BufReader::with_capacity(piece, file), memory);
    let outcome = decoder.and_then(|decoder| decoder.take(LIMIT as u64).read_to_end(&mut plain));
    (plain.len() < LIMIT).then(|| outcome.map(|_| plain).map_err(drop))
}

fn files() -> Vec<(Compression, Vec<u8>)> {
    let plain: Vec<u8> = (0..2000_u32).flat_map(|number| (number / 9).to_le_bytes()).collect();
    let read = |mut encoder: Box<dyn Read + '_>| {
        let mut file = Vec::new();
        encoder.read_to_end(&mut file).unwrap();
        file
    };
    let gzip =
        read(Box::new(flate2::read::GzEncoder::new(&*plain, flate2::Compression::default())));
    let xz = read(Box::new(liblzma::read::XzEncoder::new(&*plain, 1)));
    let bzip2 = read(Box::new(bzip2::read::BzEncoder::new(&*plain, bzip2::Compression::fast())));
    let zstd = read(Box::new(zstd::stream::read::Encoder::new(&*plain, 1).unwrap()));
    let once = [
        (Compression::Gzip, gzip),
        (Compression::Xz, xz),
        (Compression::Bzip2, bzip2),
        (Compression::Zstd, zstd),
    ];
    once.iter().flat_map(|(kind, file)| [(*kind, file.clone()), (*kind, file.repeat(2))]).collect()
}

#[test]
fn where_a_damaged_file_is_split_changes_nothing() {
    let (files, mut random, started) = (files(), Random(0x9e37_79b9_7f4a_7c15), Instant::now());
    while started.elapsed() < TIME {
        let (compression, file) = &files[random.below(files.len())];
        let file = damaged(file, &mut random);
        let whole = decoded(*compression, &file, file.len().max(1));
        let split = decoded(*compression, &file, 1 + random.below(20));
        if let (Some(whole), Some(split)) = (whole, split) {
            assert!(whole == split, "{compression}: {file:02x?}");
        }
    }
}
