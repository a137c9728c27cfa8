//! A short run of what the fuzz target `decoders` does at length: damaged files, read in one piece
//! and in many.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

use std::io::{BufReader, Read, Write};
use std::time::{Duration, Instant};

use jumpstarter_codec::{Compression, Memory};
use jumpstarter_driver_core::ByteSize;
use jumpstarter_driver_testkit::damage::{damaged, random};

const LIMIT: usize = 1 << 18;
const TIME: Duration = Duration::from_secs(1);

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
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    lz4.write_all(&plain).unwrap();
    let lz4 = lz4.finish().unwrap();
    let options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
    let stream = liblzma::stream::Stream::new_lzma_encoder(&options).unwrap();
    let lzma = read(Box::new(liblzma::bufread::XzEncoder::new_stream(&*plain, stream)));
    let sparse = include_bytes!("foreign/image.simg").to_vec();
    let once = [
        (Compression::Gzip, gzip),
        (Compression::Xz, xz),
        (Compression::Bzip2, bzip2),
        (Compression::Zstd, zstd),
        (Compression::Lz4, lz4),
        (Compression::Lzma, lzma),
        (Compression::AndroidSparse, sparse),
    ];
    once.iter().flat_map(|(kind, file)| [(*kind, file.clone()), (*kind, file.repeat(2))]).collect()
}

#[test]
fn where_a_damaged_file_is_split_changes_nothing() {
    let (files, mut random, started) = (files(), random(), Instant::now());
    while started.elapsed() < TIME {
        let (compression, file) = &files[random.usize(..files.len())];
        let file = damaged(file, &[0, 1, 0x7f, 0x80, 0xff], &mut random);
        let whole = decoded(*compression, &file, file.len().max(1));
        let split = decoded(*compression, &file, random.usize(1..=20));
        if let (Some(whole), Some(split)) = (whole, split) {
            assert!(whole == split, "{compression}: {file:02x?}");
        }
    }
}
