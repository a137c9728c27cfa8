//! Handmade headers: the meaning of each, and the refused ones.

use super::*;

const MIB: u64 = 1 << 20;

fn of(start: &[u8]) -> Result<Header> {
    Header::from_bytes(start, &start[start.len().saturating_sub(END)..], start.len() as u64)
}

#[track_caller]
fn refused(start: &[u8], kind: ErrorKind, expected: &str) {
    let error = of(start).unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.report().contains(expected), "{error:?}");
}

/// `fields` (an offset and what stands there) in a block of `length` bytes.
fn block(length: usize, fields: &[(usize, &[u8])]) -> Vec<u8> {
    let mut block = vec![0; length];
    for (at, bytes) in fields {
        block[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    block
}

fn qcow2(fields: &[(usize, &[u8])]) -> Vec<u8> {
    let mut whole: Vec<(usize, &[u8])> =
        vec![(0, b"QFI\xfb\0\0\0\x03"), (20, &[0, 0, 0, 16]), (24, &[0, 0, 0, 0, 0, 16, 0, 0])];
    whole.extend_from_slice(fields);
    block(1024, &whole)
}

#[test]
fn a_qcow2_image_is_taken_as_far_as_it_is_known() {
    let plain = of(&qcow2(&[])).unwrap();
    assert_eq!(
        (plain.format, plain.virtual_size, plain.reference),
        (DiskFormat::Qcow2, Some(MIB), None)
    );
    let refused = |fields: &[(usize, &[u8])], expected: &str| {
        refused(&qcow2(fields), ErrorKind::FailedPrecondition, expected);
    };
    refused(&[(4, &[0, 0, 0, 4])], "version 4");
    refused(&[(32, &[0, 0, 0, 1])], "encrypted");
    refused(&[(32, &[0, 0, 0, 2])], "encrypt.key-secret=key");
    refused(&[(72, &[0, 0, 0, 0, 0, 0, 0, 0x20])], "bits 0x20");
    refused(&[(72, &[0x80, 0, 0, 0, 0, 0, 0, 0])], "qemu-img convert -f qcow2 -O qcow2");
    refused(&[(72, &[0, 0, 0, 0, 0, 0, 0, 8]), (104, &[2])], "type 2");
    super::tests::refused(&qcow2(&[(79, &[2])]), ErrorKind::DataLoss, "qemu-img check -r all");
    super::tests::refused(&qcow2(&[(20, &[0, 0, 0, 99])]), ErrorKind::DataLoss, "damaged");
    for known in [1, 8, 16] {
        of(&qcow2(&[(79, &[known])])).unwrap();
    }
    let reference = |fields: &[(usize, &[u8])]| of(&qcow2(fields)).unwrap().reference.unwrap();
    assert_eq!(reference(&[(79, &[4])]), "an external data file");
    let named = reference(&[(8, &[0, 0, 0, 0, 0, 0, 2, 0]), (19, &[5]), (512, b"/etc\x1b")]);
    assert_eq!(named, "the backing file `/etc\\u{1b}`");
    assert_eq!(reference(&[(8, &[0xff; 8])]), "the backing file `?`");
    assert_eq!(reference(&[(15, &[1])]), "the backing file ``");
}

#[test]
fn every_header_may_be_cut_off() {
    for whole in [
        qcow2(&[]),
        sparse(OWN),
        block(512, &[(0x40, &[0x7f, 0x10, 0xda, 0xbe]), (0x44, &[1, 0, 1, 0])]),
    ] {
        for length in 0..whole.len() {
            drop(of(&whole[..length]));
        }
    }
    refused(b"QFI\xfb", ErrorKind::DataLoss, "cut off");
    refused(b"KDMV", ErrorKind::DataLoss, "cut off");
    refused(b"conectix", ErrorKind::DataLoss, "cut off");
}

const OWN: &str = "# Disk DescriptorFile\nversion=1\nCID=f0122df6\nparentCID=ffffffff\n\
    createType=\"monolithicSparse\"\n\n# Extent description\nRW 10240 SPARSE \"a.vmdk\"\n\n#DDB\n\nddb.adapterType = \"ide\"\n";

/// A sparse VMDK of 5 MiB with that text.
fn sparse(text: &str) -> Vec<u8> {
    let fields: [(usize, &[u8]); 6] = [
        (0, b"KDMV\x01\0\0\0\x03"),
        (12, &10240_u64.to_le_bytes()),
        (20, &128_u64.to_le_bytes()),
        (28, &1_u64.to_le_bytes()),
        (36, &20_u64.to_le_bytes()),
        (512, text.as_bytes()),
    ];
    block(65536, &fields)
}

#[test]
fn a_vmdk_that_may_name_a_file_is_known_as_one() {
    let own = of(&sparse(OWN)).unwrap();
    assert_eq!(
        (own.format, own.virtual_size, own.reference),
        (DiskFormat::Vmdk, Some(5 * MIB), None)
    );
    assert_eq!(of(&sparse(&OWN.replace('\n', "\r\n"))).unwrap().reference, None);
    let refers = |image: &[u8]| {
        let header = of(image).unwrap();
        assert!(header.format == DiskFormat::Vmdk && header.reference.is_some(), "{header:?}");
    };
    let change = |from: &str, to: &str| {
        assert!(OWN.contains(from));
        refers(&sparse(&OWN.replace(from, to)));
    };
    change(
        "RW 10240 SPARSE \"a.vmdk\"",
        "RW 8 FLAT \"/etc/passwd\" 0\nRW 8 FLAT \"/etc/shadow\" 0",
    );
    change("monolithicSparse", "monolithicFlat");
    change("monolithicSparse", "twoGbMaxExtentSparse");
    change("monolithicSparse", "custom");
    change("parentCID=ffffffff", "parentCID=12345678");
    for slot in ["# Extent description", "version=1"] {
        for parent in [
            "parentFileNameHint=\"/etc/passwd\"",
            " \tparentFileNameHint = \"/etc/passwd\"",
            "# parentFileNameHint=\"/etc/passwd\"",
            "ddb.x=parentFileNameHint=\"/etc/passwd\"",
            "\tRW 8 FLAT \"/etc/passwd\" 0",
            " RW 8 FLAT \"/etc/passwd\" 0",
            "rw 8 FLAT \"/etc/passwd\" 0",
            "anything=else",
            "anything",
        ] {
            change(slot, &format!("{slot}\n{parent}"));
        }
    }
    // The text goes on after a zero, in another place, or in another encoding.
    let mut hidden = sparse(OWN);
    hidden[4000..4030].copy_from_slice(b"parentFileNameHint=\"/etc/pass\"");
    refers(&hidden);
    let mut no_capacity = sparse("RW 8 FLAT \"/etc/passwd\" 0\n");
    no_capacity[12..20].fill(0);
    refers(&no_capacity);
    let mut no_capacity = sparse(OWN);
    no_capacity[12..20].fill(0);
    refers(&no_capacity);
    for (at, value) in [(4, 4), (28, 0), (28, 2), (36, 21)] {
        let mut changed = sparse(OWN);
        changed[at] = value;
        refers(&changed);
    }
    let mut no_text = sparse(OWN);
    no_text[512] = 0xff;
    refers(&no_text);
    refers(b"COWD and so on");
    for text in [
        "# Disk DescriptorFile\nversion=1\nRW 1 FLAT \"/etc/passwd\" 0\n",
        "\n  \t\n# x\n version=1\n",
        "version = 1\n",
        "# Disk DescriptorFile\r\nCID=1\n",
    ] {
        refers(text.as_bytes());
    }
    assert_eq!(of(b"#!/bin/sh\necho version=1\n").unwrap().format, DiskFormat::Raw);
}

/// A VHD footer with its sum.
fn footer(kind: u8, creator: &[u8], size: u64, geometry: [u8; 4]) -> Vec<u8> {
    let fields: [(usize, &[u8]); 5] = [
        (0, b"conectix"),
        (28, creator),
        (48, &size.to_be_bytes()),
        (56, &geometry),
        (63, &[kind]),
    ];
    let mut footer = block(512, &fields);
    let sum = footer.iter().fold(0_u32, |sum, byte| sum + u32::from(*byte));
    footer[64..68].copy_from_slice(&(!sum).to_be_bytes());
    footer
}

/// 20 cylinders, 16 heads, 63 sectors: less than 10 MiB + 10,752 bytes.
const GEOMETRY: [u8; 4] = [0, 20, 16, 63];
const ODD: u64 = 20 * 16 * 63 * 512 + 10_752;

#[test]
fn the_size_of_a_fixed_vhd_is_that_of_its_footer_whoever_made_it() {
    for creator in [b"vbox", b"vpc ", b"win ", b"qemu"] {
        let fixed = [vec![7; ODD as usize], footer(2, creator, ODD, GEOMETRY)].concat();
        let header = of(&fixed).unwrap();
        assert_eq!((header.format, header.fixed_size), (DiskFormat::Vpc, Some(ODD)));
        let whole = header.admit(References::Refuse).is_ok();
        assert_eq!(whole, creator == b"win ", "as QEMU shows it: {header:?}");
        refused(&fixed[512..], ErrorKind::DataLoss, "cut off");
        let mut damaged = fixed.clone();
        *damaged.last_mut().unwrap() = 1;
        assert_eq!(of(&damaged).unwrap().format, DiskFormat::Raw, "no footer at all");
    }
}

#[test]
fn a_growing_vhd_is_taken_where_qemu_shows_all_of_it() {
    let growing =
        |kind, creator, size| of(&[footer(kind, creator, size, GEOMETRY), vec![0; 4096]].concat());
    assert_eq!(growing(3, b"win ", ODD).unwrap().virtual_size, Some(ODD));
    assert_eq!(growing(3, b"vbox", ODD - 10_752).unwrap().fixed_size, None);
    let error = growing(3, b"vbox", ODD).unwrap_err();
    assert!(error.hint().unwrap().contains("force_size_calc=current_size"), "{error:?}");
    let error = growing(4, b"win ", ODD).unwrap_err();
    assert!(error.report().contains("differs from another image"), "{error:?}");
}

#[test]
fn vdi_images_of_a_chain_are_refused() {
    let vdi = |fields: &[(usize, &[u8])]| {
        let mut whole: Vec<(usize, &[u8])> =
            vec![(0x40, &[0x7f, 0x10, 0xda, 0xbe, 1, 0, 1, 0]), (0x4c, &[1]), (0x172, &[16])];
        whole.extend_from_slice(fields);
        block(1024, &whole)
    };
    let whole = of(&vdi(&[])).unwrap();
    assert_eq!((whole.format, whole.virtual_size), (DiskFormat::Vdi, Some(MIB)));
    for (fields, expected) in [
        ([(0x4c, &[4_u8][..])], "differs from another image"),
        ([(0x1a8, &[1])], "differs from another image"),
        ([(0x1c7, &[1])], "differs from another image"),
        ([(0x44, &[2])], "version"),
    ] {
        refused(&vdi(&fields), ErrorKind::FailedPrecondition, expected);
    }
}

#[test]
fn what_qemu_would_take_for_another_format_is_named() {
    for (start, format) in [
        (&b"QED\0"[..], "qed"),
        (b"WithoutFreeSpace", "parallels"),
        (b"WithouFreSpacExt", "parallels"),
        (b"Bochs Virtual HD Image", "bochs"),
        (b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0", "cloop"),
    ] {
        refused(
            &block(2048, &[(0, start)]),
            ErrorKind::FailedPrecondition,
            &format!("-f {format} -O qcow2"),
        );
    }
    refused(
        &block(2048, &[(1536, b"koly\0\0\0\x04")]),
        ErrorKind::FailedPrecondition,
        "-f dmg -O qcow2",
    );
    for raw in [&b""[..], b"LUKS\xba\xbe\0\x01", &[0xeb; 512]] {
        let header = of(raw).unwrap();
        assert_eq!((header.format, header.virtual_size), (DiskFormat::Raw, Some(raw.len() as u64)));
    }
}
