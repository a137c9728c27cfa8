//! Writes an empty qcow2 image, optionally with a backing file. It is handwritten because power-on
//! waits for it, and a run of qemu-img would take longer than everything else.
//!
//! Source: QEMU's `docs/interop/qcow2.txt`, version 3 of the format.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jumpstarter_driver_core::prelude::*;

use super::DiskFormat;

/// log2 of a cluster's size.
const CLUSTER_BITS: u32 = 16;
/// Size of a cluster, in bytes: QEMU's default.
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// The part of the disk that one entry of the first-level table describes, in bytes.
const L1_COVERS: u64 = CLUSTER * (CLUSTER / 8);
/// The largest first-level table that QEMU reads, in bytes.
const L1_LIMIT: u64 = 32 << 20;
/// Length of the header, in bytes, up to the compression type and its padding.
const HEADER_LENGTH: u32 = 112;
/// The header extension that names the backing file's format.
const BACKING_FORMAT: u32 = 0xe279_2aca;
/// The longest name of a backing file, in bytes.
const NAME_LIMIT: usize = 1023;

/// The image below an overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backing {
    /// Its path; should be absolute, since a relative one is relative to the overlay.
    pub(crate) path: PathBuf,
    /// Its format, which is never guessed.
    pub(crate) format: DiskFormat,
}

/// Creates an empty qcow2 image of `size` bytes (rounded up to 512), mode 0600. Blocks for three
/// small writes.
///
/// # Errors
/// `AlreadyExists`, other errors of the file system; `InvalidArgument` for a size of over 2 PiB and
/// for a backing file's path of over 1023 bytes.
pub(crate) fn write_qcow2(path: &Path, size: u64, backing: Option<&Backing>) -> Result<()> {
    let size = size.div_ceil(512).saturating_mul(512);
    let l1_entries = size.div_ceil(L1_COVERS);
    if l1_entries * 8 > L1_LIMIT {
        return Err(Error::invalid_argument(format!(
            "{} is more than a qcow2 image holds",
            ByteSize::bytes(size)
        )));
    }
    if backing.is_some_and(|backing| backing.path.as_os_str().len() > NAME_LIMIT) {
        return Err(Error::invalid_argument(format!(
            "the backing file's path is longer than {NAME_LIMIT} bytes"
        )));
    }
    // Cluster 0: header. 1: refcount table. 2: refcount block. From 3: first-level table, all zero.
    let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER);
    let clusters = 3 + l1_clusters;
    let refcounts: Vec<u8> = (0..clusters).flat_map(|_| 1_u16.to_be_bytes()).collect();
    let file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file
        .write_all_at(&header(size, l1_entries, backing), 0)
        .and_then(|()| file.write_all_at(&(2 * CLUSTER).to_be_bytes(), CLUSTER))
        .and_then(|()| file.write_all_at(&refcounts, 2 * CLUSTER))
        .and_then(|()| file.set_len(clusters * CLUSTER));
    if written.is_err() {
        std::fs::remove_file(path).ok();
    }
    Ok(written?)
}

/// Shrinks a qcow2 image whose end holds nothing, by changing the size in its header. Its tables
/// keep their size.
pub(super) fn set_size(path: &Path, size: u64) -> Result<()> {
    const SIZE_AT: u64 = 24;
    Ok(File::options().write(true).open(path)?.write_all_at(&size.to_be_bytes(), SIZE_AT)?)
}

/// Creates an empty raw image of `size` bytes (rounded up to 512), mode 0600, that occupies no
/// space yet.
pub(super) fn write_raw(path: &Path, size: u64) -> Result<()> {
    let file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.set_len(size.div_ceil(512).saturating_mul(512));
    if written.is_err() {
        std::fs::remove_file(path).ok();
    }
    Ok(written?)
}

/// The header with its extensions and the backing file's name: the start of cluster 0.
fn header(size: u64, l1_entries: u64, backing: Option<&Backing>) -> Vec<u8> {
    let mut extensions = Vec::new();
    if let Some(backing) = backing {
        let format = backing.format.name().as_bytes();
        extensions.extend(BACKING_FORMAT.to_be_bytes());
        extensions.extend((format.len() as u32).to_be_bytes());
        extensions.extend(format);
        extensions.resize(extensions.len().next_multiple_of(8), 0);
    }
    // The end of the extensions.
    extensions.extend([0; 8]);
    let name = backing.map_or(&[][..], |backing| backing.path.as_os_str().as_bytes());
    let name_at =
        if name.is_empty() { 0 } else { u64::from(HEADER_LENGTH) + extensions.len() as u64 };

    let mut header = Vec::with_capacity(2048);
    header.extend(b"QFI\xfb");
    header.extend(3_u32.to_be_bytes()); // version
    header.extend(name_at.to_be_bytes());
    header.extend((name.len() as u32).to_be_bytes());
    header.extend(CLUSTER_BITS.to_be_bytes());
    header.extend(size.to_be_bytes());
    header.extend(0_u32.to_be_bytes()); // not encrypted
    header.extend((l1_entries as u32).to_be_bytes());
    header.extend((3 * CLUSTER).to_be_bytes()); // first-level table
    header.extend(CLUSTER.to_be_bytes()); // refcount table
    header.extend(1_u32.to_be_bytes()); // its clusters
    header.extend([0; 4 + 8]); // no snapshots
    header.extend([0; 8 + 8 + 8]); // no incompatible, compatible, or autoclear features
    header.extend(4_u32.to_be_bytes()); // refcounts of 2^4 bits
    header.extend(HEADER_LENGTH.to_be_bytes());
    header.extend([0; 8]); // zlib, and padding
    debug_assert_eq!(header.len(), HEADER_LENGTH as usize);
    header.extend(extensions);
    header.extend(name);
    header
}
