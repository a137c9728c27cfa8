//! What is named and what is not: files of the real programs, and beginnings of disks.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

use std::io::Read;

use jumpstarter_codec::{Compression, FOREIGN_SIGNATURE, Memory, foreign};
use jumpstarter_driver_core::ByteSize;

/// What a file of the folder `foreign` is called.
#[track_caller]
fn check(file: &str, expected: &str) {
    let bytes =
        std::fs::read(format!("{}/tests/foreign/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let found = foreign(&bytes).unwrap_or_else(|| panic!("{file} is not known"));
    assert!(found.to_string().contains(expected), "{file}: {found}");
    assert!(found.hint().len() > 10, "{file}: {found:?}");
    assert_eq!(Compression::detect(&bytes), Compression::Raw, "{file}");
}

#[test]
fn what_other_programs_make_is_named() {
    check("image.legacy.lz4", "lz4");
    check("image.lzo", "lzop");
    check("image.Z", "compress");
    check("image.zip", "zip archive");
    check("image.7z", "7z");
    for format in ["v7", "ustar", "gnu", "posix"] {
        check(&format!("{format}.tar"), "a tar archive");
    }
}

/// The files that other programs made all hold the same.
#[track_caller]
fn decoded(file: &str, expected: Compression) -> Vec<u8> {
    let bytes =
        std::fs::read(format!("{}/tests/foreign/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    assert_eq!(Compression::detect(&bytes), expected, "{file}");
    assert_eq!(foreign(&bytes), None, "{file}");
    let mut plain = Vec::new();
    let decoder = expected.decoder(&*bytes, Memory::limited(ByteSize::mebibytes(16)));
    decoder.unwrap().read_to_end(&mut plain).unwrap();
    plain
}

#[test]
fn what_other_programs_make_is_decoded() {
    let plain = decoded("image.lz4", Compression::Lz4);
    assert!(!plain.is_empty());
    assert_eq!(decoded("image.lz", Compression::Lzip), plain);
    assert_eq!(decoded("image.lzma", Compression::Lzma), plain);
    assert_eq!(decoded("openwrt.lzma", Compression::Lzma), plain);
    // A block of data, two that repeat `abcd`, three of zeros, one of data.
    let expanded = decoded("image.simg", Compression::AndroidSparse);
    assert_eq!(expanded.len(), 7 * 4096);
    assert!(expanded[4096..3 * 4096].chunks(4).all(|word| word == b"abcd"));
    assert!(expanded[3 * 4096..6 * 4096].iter().all(|byte| *byte == 0));
    assert_eq!((expanded[6 * 4096], expanded[6 * 4096 + 1]), (b'x', 0));
}

#[test]
fn what_has_only_a_signature_is_named() {
    for (start, expected) in [
        (&b"Rar!\x1a\x07\x00"[..], "rar"),
        (b"Rar!\x1a\x07\x01\x00", "rar"),
        (b"PK\x05\x06\0\0", "empty zip"),
        (b"!<arch>\ndebian-binary   ", "ar archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "Git LFS"),
        (b"<!DOCTYPE html><title>Sign in</title>", "page"),
        (b"\xef\xbb\xbf\r\n  <HTML lang=en>", "page"),
        (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied", "page"),
        (b"\xff\xfe<\0h\0t\0m\0l\0>\0", "page"),
        (b"\xfe\xff\0<\0h\0t\0m\0l\0>", "page"),
        (b"{\"error\": \"no such image\"}", "JSON"),
        (b"\xef\xbb\xbf\n[\n {\"name\": \"os.img\"}]", "JSON"),
        (b"{}", "JSON"),
    ] {
        let found = foreign(start).unwrap_or_else(|| panic!("{start:?} is not known"));
        assert!(found.to_string().contains(expected), "{start:?}: {found}");
    }
}

#[test]
fn beginnings_of_disks_are_not_named() {
    let sector = |start: &[u8]| {
        let mut sector = vec![0; FOREIGN_SIGNATURE];
        sector[..start.len()].copy_from_slice(start);
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        sector
    };
    let mut fat_named_ustar = sector(b"\xeb\x3c\x90MSDOS5.0");
    fat_named_ustar[257..263].copy_from_slice(b"ustar\0");
    for (what, start) in [
        ("zeros, as of an ISO image", vec![0; FOREIGN_SIGNATURE]),
        ("a protective MBR", sector(&[])),
        ("GRUB", sector(b"\xeb\x63\x90\x10\x8e\xd0\xbc\x00\xb0\xb8\x00\x00\x8e\xd8")),
        ("syslinux's isohybrid", sector(b"\x45\x52\x08\x00\x00\x00\x90\x90")),
        ("isohybrid", sector(b"\x33\xed\xfa\x8e\xd5\xbc\x00\x7c\xfb\xfc")),
        ("a FAT file system", fat_named_ustar),
        ("a device tree", b"\xd0\x0d\xfe\xed\x00\x00\x10\x00".to_vec()),
        ("a squashfs", b"hsqs\x07\x00\x00\x00".to_vec()),
        ("an ELF file", b"\x7fELF\x02\x01\x01\x00".to_vec()),
        (
            "vectors of a Cortex-M",
            b"\x00\x00\x02\x20\xc1\x01\x00\x08\xc9\x01\x00\x08\x00\x00\x00\x00".to_vec(),
        ),
        ("qcow2", b"QFI\xfb\x00\x00\x00\x03".to_vec()),
        ("text", b"hello".to_vec()),
        ("a list of numbers", b"[1, 2]".to_vec()),
        ("what begins as JSON does", b"{\"\x00\x01".to_vec()),
        ("what begins as UTF-16 does", b"\xff\xfe\x00\x01".to_vec()),
        ("nothing", Vec::new()),
    ] {
        assert_eq!(foreign(&start), None, "{what}");
    }
}

#[test]
fn a_tar_header_needs_its_checksum() {
    let mut tar =
        std::fs::read(format!("{}/tests/foreign/v7.tar", env!("CARGO_MANIFEST_DIR"))).unwrap();
    tar[0] ^= 1;
    assert_eq!(foreign(&tar), None);
    assert_eq!(foreign(&tar[..FOREIGN_SIGNATURE - 1]), None);
}
