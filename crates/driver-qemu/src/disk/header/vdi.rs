//! VirtualBox's VDI. Source: QEMU's `block/vdi.c`.

use jumpstarter_driver_core::prelude::*;

use super::{Header, field, has, unusable};
use crate::disk::DiskFormat;

const SIGNATURE_AT: usize = 0x40;
const VERSION: u32 = 0x0001_0001;
/// Types of images: dynamic and fixed. The others are undo and differencing images.
const WHOLE: [u32; 2] = [1, 2];
/// The images before it in a chain: two numbers of 16 bytes.
const LINKS: std::ops::Range<usize> = 0x1a8..0x1c8;

pub(super) fn read(start: &[u8]) -> Option<Result<Header>> {
    has(start, SIGNATURE_AT, &[0x7f, 0x10, 0xda, 0xbe]).then(|| whole(start))
}

fn whole(start: &[u8]) -> Result<Header> {
    let number = |at| field(start, at).map(u32::from_le_bytes);
    let version = number(0x44)?;
    if version != VERSION {
        return Err(unusable(
            "vdi",
            format_args!("is of version {version:#x}, which QEMU does not know"),
        ));
    }
    let links = field::<{ LINKS.end - LINKS.start }>(start, LINKS.start)?;
    if !WHOLE.contains(&number(0x4c)?) || links != [0; LINKS.end - LINKS.start] {
        return Err(unusable("vdi", "holds only what differs from another image"));
    }
    Ok(Header::new(DiskFormat::Vdi).with_size(u64::from_le_bytes(field(start, 0x170)?)))
}
