//! Writing images with holes: blocks of zeros take no room.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Zeros are looked for in blocks of this size, the usual one of file systems.
const BLOCK: usize = 4096;
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Writes the blocks of `bytes` that are not zero. The file has nothing at or after `offset`, so
/// that what is not written reads as zeros; it must be given its length at the end.
///
/// # Errors
/// The errors of the disk.
pub fn write_sparse(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    each_run(bytes, offset, BLOCK, |is_zero, run, at| match is_zero {
        true => Ok(()),
        false => file.write_all_at(run, at),
    })
}

/// The same over old content, which ends at `old_length`: blocks of zeros are punched out of it.
pub(crate) fn overwrite_sparse(
    file: &File,
    bytes: &[u8],
    offset: u64,
    old_length: u64,
) -> io::Result<()> {
    each_run(bytes, offset, BLOCK, |is_zero, run, at| match is_zero {
        true if at >= old_length => Ok(()),
        true => zero(file, at, run.len() as u64),
        false => file.write_all_at(run, at),
    })
}

/// Writes `bytes` over old content. Longer runs of zeros, from 64 KiB, are discarded, so that a
/// block device need not store them.
///
/// # Errors
/// The errors of the disk.
pub fn write_over(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    each_run(bytes, offset, ZEROS.len(), |is_zero, run, at| match is_zero {
        true => zero(file, at, run.len() as u64),
        false => file.write_all_at(run, at),
    })
}

/// Makes `count` bytes of the file or block device zeros: discarded if it can do that and reads
/// zeros afterwards, else written.
///
/// # Errors
/// The errors of the disk.
pub fn zero(file: &File, offset: u64, count: u64) -> io::Result<()> {
    // A device discards whole sectors.
    let begin = offset.next_multiple_of(BLOCK as u64).min(offset + count);
    let end = begin.max((offset + count) / BLOCK as u64 * BLOCK as u64);
    if end == begin || !punch(file, begin, end - begin) {
        return write_zeros(file, offset, offset + count);
    }
    write_zeros(file, offset, begin)?;
    write_zeros(file, end, offset + count)
}

/// Discards `count` bytes of a block device that nobody needs: they read as anything afterwards.
/// Returns whether the device discarded them; one that cannot keeps them.
#[cfg(target_os = "linux")]
pub fn discard(file: &File, offset: u64, count: u64) -> bool {
    use rustix::fs::{FallocateFlags, fallocate};
    let begin = offset.next_multiple_of(BLOCK as u64);
    let end = (offset + count) / BLOCK as u64 * BLOCK as u64;
    if begin >= end {
        return false;
    }
    // Without zeros more devices can do it; recent kernels know that in another way only.
    let stale = FallocateFlags::NO_HIDE_STALE | FallocateFlags::PUNCH_HOLE;
    fallocate(file, stale | FallocateFlags::KEEP_SIZE, begin, end - begin).is_ok()
        || punch(file, begin, end - begin)
}

/// Discards nothing: no other system has a call for it.
#[cfg(not(target_os = "linux"))]
pub fn discard(_: &File, _: u64, _: u64) -> bool {
    false
}

fn write_zeros(file: &File, mut offset: u64, end: u64) -> io::Result<()> {
    while offset < end {
        let now = (end - offset).min(ZEROS.len() as u64);
        file.write_all_at(&ZEROS[..now as usize], offset)?;
        offset += now;
    }
    Ok(())
}

/// Calls `write` for each run of blocks of zeros, and of others.
fn each_run(
    bytes: &[u8],
    offset: u64,
    block: usize,
    mut write: impl FnMut(bool, &[u8], u64) -> io::Result<()>,
) -> io::Result<()> {
    let (mut begin, mut end, mut run_is_zero) = (0, 0, false);
    while end < bytes.len() {
        let to_boundary = block - (offset + end as u64) as usize % block;
        let next = bytes.len().min(end + to_boundary);
        let is_zero = bytes[end..next] == ZEROS[..next - end];
        if is_zero != run_is_zero && end > begin {
            write(run_is_zero, &bytes[begin..end], offset + begin as u64)?;
            begin = end;
        }
        (end, run_is_zero) = (next, is_zero);
    }
    if end > begin { write(run_is_zero, &bytes[begin..end], offset + begin as u64) } else { Ok(()) }
}

#[cfg(target_os = "linux")]
fn punch(file: &File, offset: u64, length: u64) -> bool {
    use rustix::fs::{FallocateFlags, fallocate};
    fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn punch(_: &File, _: u64, _: u64) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn zeros_become_holes_wherever_they_begin() {
        let file = tempfile::tempfile().unwrap();
        let mut image = vec![0; 1 << 20];
        for at in [0, 4095, 4096, 300_000, (1 << 20) - 1] {
            image[at] = 7;
        }
        let mut offset = 0;
        for piece in image.chunks(70_001) {
            write_sparse(&file, piece, offset).unwrap();
            offset += piece.len() as u64;
        }
        file.set_len(offset).unwrap();
        let mut found = vec![1; image.len()];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found == image);
        assert!(file.metadata().unwrap().blocks() * 512 < 200_000, "no holes");
    }

    #[test]
    fn any_range_becomes_zeros() {
        let file = tempfile::tempfile().unwrap();
        for (offset, count) in [(0, 1), (1, 4095), (5, 4091), (4096, 4096), (4095, 12_289), (7, 0)]
        {
            file.write_all_at(&[9; 20_000], 0).unwrap();
            zero(&file, offset, count).unwrap();
            let mut found = vec![1; 20_000];
            file.read_exact_at(&mut found, 0).unwrap();
            let zeros = offset as usize..(offset + count) as usize;
            assert!(found[zeros.clone()].iter().all(|byte| *byte == 0), "{zeros:?}");
            assert!(found.iter().filter(|byte| **byte == 9).count() == 20_000 - zeros.len());
        }
    }

    #[test]
    fn whole_blocks_are_discarded_where_that_works() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![9; 200_000], 0).unwrap();
        assert!(discard(&file, 1, 190_000));
        let mut found = vec![1; 200_000];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found[..4096].iter().chain(&found[190_001..]).all(|byte| *byte == 9));
        assert!(found[4096..188_416].iter().all(|byte| *byte == 0));
        assert!(!discard(&file, 1, 4096), "there is no whole block");
        let null = File::options().write(true).open("/dev/null").unwrap();
        assert!(!discard(&null, 0, 1 << 20));
    }

    #[test]
    fn old_content_does_not_show_through() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![9; 100_000], 0).unwrap();
        let mut image = vec![0; 150_000];
        image[5000] = 1;
        for (index, piece) in image.chunks(33_333).enumerate() {
            overwrite_sparse(&file, piece, index as u64 * 33_333, 100_000).unwrap();
        }
        file.set_len(image.len() as u64).unwrap();
        let mut found = vec![1; image.len()];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found == image);
    }
}
