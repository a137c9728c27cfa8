//! Decoders on any file: splitting it changes nothing, and nothing panics, hangs or takes unlimited
//! memory.
#![no_main]

use std::io::{BufReader, Read};

use jumpstarter_codec::{Compression, Memory, foreign};
use jumpstarter_driver_core::ByteSize;
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 1 << 20;

/// Decodes a file that is read in pieces of that size; `None` if that would take too long.
fn decoded(compression: Compression, file: &[u8], piece: usize) -> Option<Result<Vec<u8>, ()>> {
    let input = BufReader::with_capacity(piece, file);
    let memory = Memory::limited(ByteSize::mebibytes(16));
    let mut decoder = match compression.decoder(input, memory) {
        Ok(decoder) => decoder.take(LIMIT as u64),
        Err(_) => return Some(Err(())),
    };
    let mut plain = Vec::new();
    let outcome = decoder.read_to_end(&mut plain);
    (plain.len() < LIMIT).then(|| outcome.map(|_| plain).map_err(drop))
}

fuzz_target!(|input: &[u8]| {
    let [kind, piece, file @ ..] = input else { return };
    let compressions = [
        Compression::Gzip,
        Compression::Xz,
        Compression::Bzip2,
        Compression::Zstd,
        Compression::Lz4,
        Compression::Lzma,
        Compression::Lzip,
        Compression::AndroidSparse,
    ];
    let compression = compressions[usize::from(kind % 4)];
    let whole = decoded(compression, file, file.len().max(1));
    let split = decoded(compression, file, usize::from((*piece).max(1)));
    if let (Some(whole), Some(split)) = (whole, split) {
        assert!(whole == split, "where {compression} is split changes what it is");
    }
    if let Some(found) = foreign(file) {
        assert!(!found.to_string().is_empty() && !found.hint().is_empty());
    }
});
