//! What decoders may take. The files are small; only their headers ask for much.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

use std::io::{BufReader, Read};

use jumpstarter_codec::{Compression, Memory, decompress};
use jumpstarter_driver_core::{ByteSize, Error, ErrorKind};

const PLAIN: &[u8] = &[7; 100_000];

/// A frame without its size, whose window is `2^log` bytes.
fn zstd(log: u8) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    std::io::copy(&mut &*PLAIN, &mut encoder).unwrap();
    let mut frame = encoder.finish().unwrap();
    assert_eq!(frame[4] & 0x20, 0, "not in a single segment");
    frame[5] = (log - 10) << 3;
    frame
}

/// A stream whose dictionary has the size that `code` stands for: `2^(code / 2 + 12)` for an even
/// one.
fn xz(code: u8) -> Vec<u8> {
    let mut stream = Vec::new();
    liblzma::read::XzEncoder::new(PLAIN, 1).read_to_end(&mut stream).unwrap();
    // After the stream's header: the length in words, flags, LZMA2 with one byte of properties.
    let header = &mut stream[12..][..12];
    assert_eq!(header[..4], [2, 0, 0x21, 1]);
    header[4] = code;
    let mut checksum = flate2::Crc::new();
    checksum.update(&header[..8]);
    header[8..].copy_from_slice(&checksum.sum().to_le_bytes());
    stream
}

fn by_default(compression: Compression, file: &[u8]) -> Result<Vec<u8>, Error> {
    let (mut next, mut plain) = (Some(bytes::Bytes::copy_from_slice(file)), Vec::new());
    let give = |piece: bytes::Bytes| {
        plain.extend_from_slice(&piece);
        true
    };
    decompress(compression, "", || Ok(next.take()), give).map(|()| plain)
}

/// With a limit of mebibytes, read byte by byte.
fn within(mebibytes: u64, compression: Compression, file: &[u8]) -> std::io::Result<Vec<u8>> {
    let memory = Memory::limited(ByteSize::mebibytes(mebibytes));
    let mut plain = Vec::new();
    compression.decoder(BufReader::with_capacity(1, file), memory)?.read_to_end(&mut plain)?;
    Ok(plain)
}

#[track_caller]
fn assert_refused(outcome: Result<Vec<u8>, Error>, setting: &str) {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{}", error.report());
    assert!(error.report().contains("the limit is 128 MiB"), "{}", error.report());
    assert!(
        error.report().contains(&format!("JMP_DECODER_MEMORY={setting} ")),
        "{}",
        error.report()
    );
}

#[test]
fn large_windows_need_a_setting() {
    assert!(by_default(Compression::Zstd, &zstd(27)).unwrap() == PLAIN);
    assert_refused(by_default(Compression::Zstd, &zstd(28)), "256MiB");
    assert_refused(by_default(Compression::Zstd, &zstd(31)), "2048MiB");
    assert!(within(2048, Compression::Zstd, &zstd(31)).unwrap() == PLAIN);
    assert!(within(255, Compression::Zstd, &zstd(28)).is_err());
}

#[test]
fn large_dictionaries_need_a_setting() {
    // As of `xz -9`.
    assert!(by_default(Compression::Xz, &xz(28)).unwrap() == PLAIN);
    assert_refused(by_default(Compression::Xz, &xz(30)), "129MiB");
    assert_refused(by_default(Compression::Xz, &xz(37)), "1537MiB");
    assert!(within(1537, Compression::Xz, &xz(37)).unwrap() == PLAIN);
    assert!(within(1536, Compression::Xz, &xz(37)).is_err());
}

#[test]
fn a_later_member_is_refused_too() {
    let twice = [PLAIN, PLAIN].concat();
    let skipped = [b"\x50\x2a\x4d\x18\x03\0\0\0abc", &zstd(20)[..]].concat();
    assert!(by_default(Compression::Zstd, &[&zstd(20)[..], &skipped].concat()).unwrap() == twice);
    assert!(within(8, Compression::Zstd, &[&skipped[..], &zstd(21)].concat()).unwrap() == twice);
    assert_refused(by_default(Compression::Zstd, &[&zstd(20)[..], &zstd(31)].concat()), "2048MiB");
    assert_refused(by_default(Compression::Zstd, &[&skipped[..], &zstd(31)].concat()), "2048MiB");
    assert!(
        by_default(Compression::Xz, &[&xz(20)[..], &[0; 8], &xz(28)].concat()).unwrap() == twice
    );
    assert_refused(
        by_default(Compression::Xz, &[&xz(20)[..], &[0; 8], &xz(37)].concat()),
        "1537MiB",
    );
}

#[test]
fn a_single_segment_is_as_large_as_it_says() {
    // No window, but a size of 8 bytes.
    let mut frame = b"\x28\xb5\x2f\xfd\xe0".to_vec();
    frame.extend((1_u64 << 31).to_le_bytes());
    assert_refused(by_default(Compression::Zstd, &frame), "2048MiB");
    let small = zstd::encode_all(&b"hello"[..], 1).unwrap();
    let error = by_default(Compression::Zstd, &small[..small.len() - 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataLoss, "{}", error.report());
}

#[test]
fn all_decoders_together_have_a_limit() {
    let memory = Memory::limited(ByteSize::mebibytes(16));
    let file = zstd(24);
    let begin = || {
        let mut decoder = Compression::Zstd.decoder(&*file, memory).unwrap();
        let begun = decoder.read(&mut [0; 10]);
        (decoder, begun)
    };
    let held: Vec<_> = (0..16).map(|_| begin()).collect();
    assert!(held.iter().all(|(_, begun)| begun.is_ok()));
    let refused = begin().1.unwrap_err().to_string();
    assert!(refused.contains("other decoders hold 256 MiB"), "{refused}");
    drop(held);
    begin().1.unwrap();
}
