//! The headers of disk images: any flashed image is judged without a panic, and an accepted one
//! names nothing.
#![no_main]

use jumpstarter_driver_qemu::{DiskFormat, Header, References};
use libfuzzer_sys::fuzz_target;

/// The start of each format, so that the fuzzer need not find it.
const STARTS: [&[u8]; 8] = [
    b"",
    b"QFI\xfb\0\0\0\x03",
    b"QFI\xfb\0\0\0\x02",
    b"QFI\xfb\0\0\0\x01",
    b"KDMV\x01\0\0\0\x03\0\0\0\0\x28\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x14",
    b"conectix\0\0\0\x02\0\x01\0\0",
    b"<<< Oracle VM VirtualBox Disk Image >>>\n\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x7f\x10\xda\xbe\x01\0\x01\0",
    b"# Disk DescriptorFile\nversion=1\n",
];

fuzz_target!(|input: (u8, u32, &[u8])| {
    let (start, more, bytes) = input;
    let mut image = STARTS[usize::from(start) % STARTS.len()].to_vec();
    image.extend_from_slice(bytes);
    // The text of a sparse VMDK is in its second sector.
    if image.starts_with(b"KDMV") {
        image.resize(512, 0);
        image.extend_from_slice(bytes);
        image.resize(image.len().max(512 + 20 * 512), 0);
    }
    let end = &image[image.len().saturating_sub(512)..];
    let length = image.len() as u64 + u64::from(more);
    let Ok(header) = Header::from_bytes(&image, end, length) else { return };
    if let Some(size) = header.fixed_size {
        assert!(size <= length, "a fixed VHD is cut to what is there");
    }
    let Ok(format) = header.admit(References::Refuse) else { return };
    assert_eq!(header.backing, None, "an image with a backing file was accepted");
    match format {
        DiskFormat::Qcow2 | DiskFormat::Qcow => assert_eq!(image[8..16], [0; 8], "the place of a backing file's name"),
        DiskFormat::Vmdk => {
            // What QEMU reads as text ends at the first zero.
            let text = &image[512..512 + 20 * 512];
            let text = &text[..text.iter().position(|byte| *byte == 0).unwrap_or(text.len())];
            let text = String::from_utf8(text.to_vec()).expect("an accepted text is UTF-8").to_ascii_lowercase();
            assert!(!text.contains("parentfilenamehint"), "a parent was accepted");
            assert_ne!(image[12..20], [0; 8], "without a capacity QEMU reads the text");
        }
        _ => {}
    }
});
