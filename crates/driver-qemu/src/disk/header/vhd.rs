//! Virtual PC's VHD: a footer of 512 bytes; a growing image has a copy at its start.
//!
//! It contains two sizes: the disk's, and a geometry, which is often smaller. QEMU uses the
//! geometry unless it knows the program that made the image; the disk then lacks its last part.
//! Source: Microsoft's "Virtual Hard Disk Image Format Specification", QEMU's `block/vpc.c`.

use jumpstarter_driver_core::prelude::*;

use super::{Header, field, has, unusable};
use crate::disk::DiskFormat;

const COOKIE: &[u8] = b"conectix";
const FOOTER: u64 = 512;
const FIXED: u32 = 2;
const DYNAMIC: u32 = 3;
/// Programs whose size QEMU uses, back to version 2.6.
const SIZE_IS_BELIEVED: [&[u8]; 5] = [b"win ", b"qem2", b"d2v ", b"CTXS", b"tap"];
/// The largest geometry, in sectors: it stands for "more than that".
const MAX_GEOMETRY: u64 = 65535 * 16 * 255;

pub(super) fn read(start: &[u8], end: &[u8], length: u64) -> Option<Result<Header>> {
    if has(start, 0, COOKIE) {
        return Some(growing(start));
    }
    // A guest may have written those letters to its last sector: the footer must be complete.
    let is_footer = end.len() as u64 == FOOTER && has(end, 0, COOKIE) && is_intact(end);
    is_footer.then(|| fixed(end, length))
}

fn growing(start: &[u8]) -> Result<Header> {
    if number(start, 60)? != DYNAMIC {
        return Err(unusable("vpc", "holds only what differs from another image"));
    }
    let size = size(start)?;
    if shown_by_qemu(start)? != size {
        return Err(two_sizes());
    }
    Ok(Header::new(DiskFormat::Vpc).with_size(size))
}

/// The error for an image whose disk would lack its end.
pub(super) fn two_sizes() -> Error {
    Error::failed_precondition("the VHD image has two sizes, and QEMU uses its geometry").with_hint(
        "convert it: `qemu-img convert --image-opts \
         driver=vpc,force_size_calc=current_size,file.filename=IMAGE -O qcow2 IMAGE.qcow2`",
    )
}

fn fixed(footer: &[u8], length: u64) -> Result<Header> {
    if number(footer, 60)? != FIXED {
        return Err(unusable("vpc", "lacks its start"));
    }
    let (size, held) = (size(footer)?, length.saturating_sub(FOOTER));
    if size > held {
        let (size, held) = (ByteSize::bytes(size), ByteSize::bytes(held));
        return Err(Error::data_loss(format!(
            "the VHD image is cut off: it holds {held} of its {size}"
        )));
    }
    let shown = shown_by_qemu(footer)?;
    Ok(Header { fixed_size: Some(size), ..Header::new(DiskFormat::Vpc).with_size(shown) })
}

/// Size of the disk, in bytes.
fn size(footer: &[u8]) -> Result<u64> {
    field(footer, 48).map(u64::from_be_bytes)
}

/// Size of the disk that QEMU shows, in bytes.
fn shown_by_qemu(footer: &[u8]) -> Result<u64> {
    let cylinders = u64::from(u16::from_be_bytes(field(footer, 56)?));
    let [heads, sectors] = field::<2>(footer, 58)?;
    let geometry = cylinders * u64::from(heads) * u64::from(sectors);
    let creator = field::<4>(footer, 28)?;
    if geometry == MAX_GEOMETRY || SIZE_IS_BELIEVED.iter().any(|known| creator.starts_with(known)) {
        return Ok(size(footer)? / 512 * 512);
    }
    Ok(geometry * 512)
}

/// Whether the footer's sum is right: the complement of the sum of all other bytes.
fn is_intact(footer: &[u8]) -> bool {
    let sum = footer.iter().enumerate().filter(|(at, _)| !(64..68).contains(at));
    let sum = sum.fold(0_u32, |sum, (_, byte)| sum.wrapping_add(u32::from(*byte)));
    number(footer, 64).is_ok_and(|written| written == !sum)
}

fn number(footer: &[u8], at: usize) -> Result<u32> {
    field(footer, at).map(u32::from_be_bytes)
}
