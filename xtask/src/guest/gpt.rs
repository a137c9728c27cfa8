//! A GUID partition table with one EFI system partition (UEFI specification 2.10, chapter 5).
use flate2::Crc;

/// Bytes of a sector.
pub(crate) const SECTOR: u64 = 512;
/// Sectors before the partition: 1 MiB, as partitioning tools do.
pub(crate) const START: u64 = 2048;
/// Sectors after the partition: for the backup table.
pub(crate) const END: u64 = 2048;

/// Type C12A7328-F81F-11D2-BA4B-00A0C93EC93B: EFI system partition.
const ESP: [u8; 16] = [
    0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
];
/// The attribute "legacy BIOS bootable", by which syslinux's boot record finds its partition.
const BIOS_BOOTABLE: u64 = 1 << 2;
const ENTRIES: u32 = 128;
const ENTRY_SIZE: u32 = 128;
const ENTRY_SECTORS: u64 = ENTRIES as u64 * ENTRY_SIZE as u64 / SECTOR;

/// The start and the end of a disk of `sectors` sectors: boot code, primary and backup table.
#[derive(Debug)]
pub(crate) struct Table {
    /// To be written at the disk's first byte.
    pub(crate) head: Vec<u8>,
    /// To be written at its last bytes.
    pub(crate) tail: Vec<u8>,
}

/// The table of a disk with one partition from [`START`] to [`END`] sectors before its end.
pub(crate) fn table(sectors: u64, boot_code: &[u8]) -> Table {
    let entries = entries(sectors);
    let backup = sectors - 1;
    let mut head = protective_record(sectors, boot_code);
    head.extend(header(sectors, 1, backup, 2, &entries));
    head.extend(&entries);
    let mut tail = entries.clone();
    tail.extend(header(sectors, backup, 1, backup - ENTRY_SECTORS, &entries));
    Table { head, tail }
}

/// The master boot record: code for BIOS, and one entry that shows old tools that the disk is in
/// use.
fn protective_record(sectors: u64, boot_code: &[u8]) -> Vec<u8> {
    let mut record = vec![0; 512];
    let code = boot_code.len().min(440);
    record[..code].copy_from_slice(&boot_code[..code]);
    record[446..454].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
    record[454..458].copy_from_slice(&1_u32.to_le_bytes());
    record[458..462].copy_from_slice(&u32::try_from(sectors - 1).unwrap_or(u32::MAX).to_le_bytes());
    record[510..].copy_from_slice(&[0x55, 0xaa]);
    record
}

fn entries(sectors: u64) -> Vec<u8> {
    let mut entries = Vec::new();
    entries.extend(ESP);
    entries.extend(*b"jumpstarter-esp0");
    entries.extend(START.to_le_bytes());
    entries.extend((sectors - END - 1).to_le_bytes());
    entries.extend(BIOS_BOOTABLE.to_le_bytes());
    entries.extend("ESP".encode_utf16().flat_map(u16::to_le_bytes));
    entries.resize((ENTRIES * ENTRY_SIZE) as usize, 0);
    entries
}

fn header(sectors: u64, own: u64, other: u64, entries_at: u64, entries: &[u8]) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(b"EFI PART");
    header.extend(0x0001_0000_u32.to_le_bytes());
    header.extend(92_u32.to_le_bytes());
    header.extend([0; 8]); // the header's checksum, reserved
    header.extend(own.to_le_bytes());
    header.extend(other.to_le_bytes());
    header.extend((2 + ENTRY_SECTORS).to_le_bytes()); // first and last usable sector
    header.extend((sectors - ENTRY_SECTORS - 2).to_le_bytes());
    header.extend(*b"jumpstarter-disk");
    header.extend(entries_at.to_le_bytes());
    header.extend(ENTRIES.to_le_bytes());
    header.extend(ENTRY_SIZE.to_le_bytes());
    header.extend(crc32(entries).to_le_bytes());
    let checksum = crc32(&header);
    header[16..20].copy_from_slice(&checksum.to_le_bytes());
    header.resize(SECTOR as usize, 0);
    header
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_headers_are_in_place_and_sound() {
        let sectors = 65536;
        let table = table(sectors, b"code");
        assert_eq!(&table.head[..4], b"code");
        assert_eq!(&table.head[510..520], b"\x55\xaaEFI PART");
        assert_eq!(table.tail.len() as u64, (ENTRY_SECTORS + 1) * SECTOR);
        let backup = &table.tail[(ENTRY_SECTORS * SECTOR) as usize..];
        for header in [&table.head[512..1024], backup] {
            let mut zeroed = header[..92].to_vec();
            zeroed[16..20].fill(0);
            assert_eq!(crc32(&zeroed).to_le_bytes(), header[16..20]);
        }
        assert_eq!(backup[24..32], (sectors - 1).to_le_bytes());
    }
}
