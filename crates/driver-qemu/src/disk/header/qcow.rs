//! qcow2 and its predecessor. Source: QEMU's `docs/interop/qcow2.txt`, `block/qcow.c`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use jumpstarter_driver_core::prelude::*;

use super::{BackingName, Header, field, has, unusable};
use crate::disk::DiskFormat;

/// Bits of `incompatible_features` that every QEMU from 5.1 on knows: dirty, corrupt, data file,
/// compression type. The last, extended L2 entries, came with 5.2.
const KNOWN_FEATURES: u64 = 0b1_1111;
const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
/// The largest compression type that QEMU knows: zstd.
const ZSTD: u8 = 1;
/// Length of version 2's header, in bytes.
const OLD_LENGTH: usize = 72;
/// The header extension that names the backing file's format.
const BACKING_FORMAT: u32 = 0xe279_2aca;
/// Sizes of clusters, as powers of two.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;

pub(super) fn read(start: &[u8]) -> Option<Result<Header>> {
    if !has(start, 0, b"QFI\xfb") {
        return None;
    }
    Some(number(start, 4).and_then(|version| match version {
        1 => first(start),
        2 | 3 => second(start, version),
        _ => Err(unusable(
            "qcow2",
            format_args!("is of version {version}, which QEMU does not know"),
        )),
    }))
}

fn number(start: &[u8], at: usize) -> Result<u32> {
    field(start, at).map(u32::from_be_bytes)
}

fn long_number(start: &[u8], at: usize) -> Result<u64> {
    field(start, at).map(u64::from_be_bytes)
}

fn first(start: &[u8]) -> Result<Header> {
    let header = Header::new(DiskFormat::Qcow).with_size(long_number(start, 24)?);
    if number(start, 36)? != 0 {
        return Err(encrypted("qcow"));
    }
    Ok(match backing_file(start)? {
        Some(backing) => header.over(backing),
        None => header,
    })
}

fn second(start: &[u8], version: u32) -> Result<Header> {
    let header = Header::new(DiskFormat::Qcow2).with_size(long_number(start, 24)?);
    if !CLUSTER_BITS.contains(&number(start, 20)?) {
        return Err(Error::data_loss("its header is damaged: there are no clusters of that size"));
    }
    if number(start, 32)? != 0 {
        return Err(encrypted("qcow2"));
    }
    let features = if version >= 3 { long_number(start, 72)? } else { 0 };
    let unknown = features & !KNOWN_FEATURES;
    if unknown != 0 {
        return Err(unusable(
            "qcow2",
            format_args!("needs features that are not known here (bits {unknown:#x})"),
        ));
    }
    if features & CORRUPT != 0 {
        return Err(Error::data_loss("the qcow2 image is marked as damaged")
            .with_hint("try to repair it: `qemu-img check -r all IMAGE`"));
    }
    // A shorter header lacks the field, and means zlib.
    let compression = if features & COMPRESSION_TYPE != 0 { field::<1>(start, 104)?[0] } else { 0 };
    if compression > ZSTD {
        return Err(unusable(
            "qcow2",
            format_args!("is compressed in a way (type {compression}) that is not known here"),
        ));
    }
    Ok(match backing_file(start)? {
        Some(backing) => header
            .over(BackingName { format: backing_format(start, version).ok().flatten(), ..backing }),
        None if features & DATA_FILE != 0 => header.with_reference("an external data file"),
        None => header,
    })
}

/// The backing file, at the same place in both formats.
fn backing_file(start: &[u8]) -> Result<Option<BackingName>> {
    let (offset, length) = (long_number(start, 8)?, number(start, 16)?);
    if offset == 0 {
        return Ok(None);
    }
    let name = usize::try_from(offset)
        .ok()
        .and_then(|from| Some(from..from.checked_add(usize::try_from(length).ok()?)?))
        .and_then(|range| start.get(range))
        .map_or_else(|| b"?".to_vec(), <[u8]>::to_vec);
    Ok(Some(BackingName { name: OsString::from_vec(name).into(), format: None }))
}

/// The backing file's format, from the extensions that follow a header.
fn backing_format(start: &[u8], version: u32) -> Result<Option<String>> {
    let mut at = if version >= 3 { number(start, 100)? as usize } else { OLD_LENGTH };
    loop {
        let (kind, length) = (number(start, at)?, number(start, at + 4)? as usize);
        let contents = start.get(at + 8..).and_then(|rest| rest.get(..length));
        match (kind, contents) {
            (BACKING_FORMAT, Some(name)) => {
                return Ok(Some(String::from_utf8_lossy(name).into_owned()));
            }
            (0, _) | (_, None) => return Ok(None),
            _ => at += 8 + length.next_multiple_of(8),
        }
    }
}

impl Header {
    fn over(self, backing: BackingName) -> Self {
        let reference =
            format!("the backing file `{}`", backing.name.to_string_lossy().escape_debug());
        Self { backing: Some(backing), ..self.with_reference(reference) }
    }
}

fn encrypted(format: &str) -> Error {
    Error::failed_precondition(format!(
        "the {format} image is encrypted, and there is no place for its key"
    ))
    .with_hint(format!(
        "decrypt it: `qemu-img convert --object secret,id=key,file=KEYFILE --image-opts \
             driver={format},file.filename=IMAGE,encrypt.key-secret=key -O qcow2 IMAGE.qcow2`"
    ))
}
