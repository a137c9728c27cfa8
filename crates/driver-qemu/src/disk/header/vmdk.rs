//! VMware's VMDK. Most of its kinds are a text that names other files, any file of the host; one
//! kind contains the whole disk, and only that one is accepted, if nothing in it can lead QEMU's
//! lenient reader elsewhere.
//!
//! Source: VMware's "Virtual Disk Format 5.0", QEMU's `block/vmdk.c`.

use jumpstarter_driver_core::prelude::*;

use super::{Header, field, has};
use crate::disk::DiskFormat;

/// The position of the text in a sparse image, in bytes.
const TEXT_AT: usize = 512;
/// The length that QEMU reads of it, in sectors.
const TEXT_SECTORS: u64 = 20;
/// The kinds in one file.
const WHOLE: [&str; 2] = ["monolithicSparse", "streamOptimized"];
/// Keys of the text's first part that name nothing.
const HARMLESS: [&str; 5] = ["version", "encoding", "CID", "parentCID", "isNativeSnapshot"];

pub(super) fn read(start: &[u8]) -> Option<Result<Header>> {
    let found = Header::new(DiskFormat::Vmdk);
    if has(start, 0, b"KDMV") {
        return Some(sparse(start).map(|capacity| match capacity {
            Some(size) => found.with_size(size),
            None => found.with_reference("other files, or may do so"),
        }));
    }
    if has(start, 0, b"COWD") || is_text(start) {
        return Some(Ok(found.with_reference("the files of its extents")));
    }
    None
}

/// The size of the disk of a sparse image that is complete; `None` for one that may need other
/// files.
fn sparse(start: &[u8]) -> Result<Option<u64>> {
    let number = |at| field(start, at).map(u64::from_le_bytes);
    let version = u32::from_le_bytes(field(start, 4)?);
    let (sectors, text_at, text_sectors) = (number(12)?, number(28)?, number(36)?);
    // Without a capacity QEMU reads the disk's parts from the text, and ignores the rest of the
    // header.
    let is_whole = (1..=3).contains(&version)
        && sectors > 0
        && text_at == 1
        && text_sectors <= TEXT_SECTORS
        && start.get(TEXT_AT..TEXT_AT + text_sectors as usize * 512).is_some_and(|text| {
            // QEMU reads up to the first zero, or 20 sectors.
            names_nothing(text) && (text.contains(&0) || text_sectors == TEXT_SECTORS)
        });
    Ok(is_whole.then(|| sectors.saturating_mul(512)))
}

/// Whether every line of a sparse image's text is known to name no other file.
fn names_nothing(text: &[u8]) -> bool {
    let (text, padding) =
        text.split_at(text.iter().position(|byte| *byte == 0).unwrap_or(text.len()));
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let mut kind = None;
    let mut extents = 0;
    for line in text.split('\n').map(|line| line.trim_end_matches('\r')) {
        if line.is_empty() || line.starts_with('#') || line.starts_with("ddb.") {
            continue;
        }
        if line.starts_with("RW ") || line.starts_with("RDONLY ") {
            extents += 1;
            continue;
        }
        let Some((key, value)) =
            line.split_once('=').map(|(key, value)| (key.trim(), value.trim()))
        else {
            return false;
        };
        match key {
            "createType" => kind = Some(value.trim_matches('"')),
            "parentCID" if !value.eq_ignore_ascii_case("ffffffff") => return false,
            _ if HARMLESS.contains(&key) => {}
            _ => return false,
        }
    }
    // QEMU looks for a parent's name at every position.
    let lower = text.to_ascii_lowercase();
    padding.iter().all(|byte| *byte == 0)
        && kind.is_some_and(|kind| WHOLE.contains(&kind))
        && extents <= 1
        && !lower.contains("parentfilename")
}

/// As QEMU's `vmdk_probe`, and a little more lenient: after comments and empty lines comes
/// `version`.
fn is_text(start: &[u8]) -> bool {
    if start.trim_ascii_start().starts_with(b"# Disk DescriptorFile") {
        return true;
    }
    let mut lines = start.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with(b"#"));
    first
        .and_then(|line| line.strip_prefix(b"version"))
        .is_some_and(|rest| rest.trim_ascii_start().starts_with(b"="))
}
