//! Writes a small FAT12 file system, of the size of a floppy disk, with a few files in its root
//! folder.
//!
//! It is handwritten because it is small, and because no linked crate knows FAT; mtools reads it in
//! the tests.
//!
//! Source: Microsoft's "FAT: General Overview of On-Disk Format", version 1.03. One sector a
//! cluster; no dates.

use std::fs::File;
use std::os::unix::fs::FileExt;

use jumpstarter_driver_core::prelude::*;

const SECTOR: usize = 512;
const SECTORS: usize = 2880;
const FAT_SECTORS: usize = 9;
const ROOT_ENTRIES: usize = 112;
const FAT_AT: usize = SECTOR;
const ROOT_AT: usize = FAT_AT + 2 * FAT_SECTORS * SECTOR;
const DATA_AT: usize = ROOT_AT + ROOT_ENTRIES * 32;
/// Clusters for data; their numbers start at 2.
const CLUSTERS: usize = SECTORS - DATA_AT / SECTOR;
const MEDIA: u8 = 0xf8;
/// The number of letters in one entry of a long name.
const LONG_LETTERS: usize = 13;

/// Writes the file system, with these files (name, contents), to an empty file.
///
/// # Errors
/// The errors of the file system; `InvalidArgument` if the files do not fit, or for a name that is
/// not ASCII.
pub(super) fn write(file: &File, label: &str, files: &[(&str, &[u8])]) -> Result<()> {
    let mut fat = Fat(vec![0; FAT_SECTORS * SECTOR]);
    fat.set(0, 0xf00 | u16::from(MEDIA));
    fat.set(1, 0xfff);
    let mut root = entry(&label_field(label), 0x08, 0, 0).to_vec();
    let mut data = Vec::new();
    for (number, (name, contents)) in files.iter().enumerate() {
        if !name.is_ascii() || name.len() > 255 {
            return Err(Error::invalid_argument(format!(
                "`{name}` is no name for this file system"
            )));
        }
        let first = 2 + data.len() / SECTOR;
        let clusters = contents.len().div_ceil(SECTOR);
        if first + clusters > 2 + CLUSTERS {
            return Err(Error::invalid_argument("the files are larger than the 1.4 MiB that fit"));
        }
        for cluster in first..first + clusters {
            let last = cluster + 1 == first + clusters;
            fat.set(cluster, if last { 0xfff } else { cluster as u16 + 1 });
        }
        data.extend_from_slice(contents);
        data.resize(data.len().next_multiple_of(SECTOR), 0);
        let short = short_name(number);
        root.extend(long_name(name, &short));
        // An empty file has no cluster.
        root.extend(entry(
            &short,
            0x20,
            if clusters == 0 { 0 } else { first as u16 },
            contents.len() as u32,
        ));
    }
    if root.len() > ROOT_ENTRIES * 32 {
        return Err(Error::invalid_argument("there are more files than fit"));
    }
    file.set_len((SECTORS * SECTOR) as u64)?;
    let parts = [
        (0, &boot_sector(label)[..]),
        (FAT_AT, &fat.0),
        (FAT_AT + fat.0.len(), &fat.0),
        (ROOT_AT, &root),
        (DATA_AT, &data),
    ];
    for (at, bytes) in parts {
        file.write_all_at(bytes, at as u64)?;
    }
    Ok(())
}

/// The table of clusters: 12 bits each.
struct Fat(Vec<u8>);

impl Fat {
    fn set(&mut self, cluster: usize, value: u16) {
        let at = cluster * 3 / 2;
        let [low, high] = value.to_le_bytes();
        if cluster.is_multiple_of(2) {
            self.0[at] = low;
            self.0[at + 1] = self.0[at + 1] & 0xf0 | high;
        } else {
            self.0[at] = self.0[at] & 0x0f | low << 4;
            self.0[at + 1] = low >> 4 | high << 4;
        }
    }
}

fn label_field(label: &str) -> [u8; 11] {
    let mut field = [b' '; 11];
    for (to, from) in field.iter_mut().zip(label.bytes()) {
        *to = from;
    }
    field
}

fn boot_sector(label: &str) -> [u8; SECTOR] {
    let mut sector = Vec::with_capacity(SECTOR);
    sector.extend(b"\xeb\x3c\x90JUMPSTRT");
    sector.extend((SECTOR as u16).to_le_bytes());
    sector.push(1); // sectors per cluster
    sector.extend(1_u16.to_le_bytes()); // reserved sectors: this one
    sector.push(2); // tables
    sector.extend((ROOT_ENTRIES as u16).to_le_bytes());
    sector.extend((SECTORS as u16).to_le_bytes());
    sector.push(MEDIA);
    sector.extend((FAT_SECTORS as u16).to_le_bytes());
    sector.extend(18_u16.to_le_bytes()); // sectors per track
    sector.extend(2_u16.to_le_bytes()); // heads
    sector.extend([0; 8]); // hidden sectors, and the size if it did not fit above
    sector.extend([0x80, 0, 0x29]); // drive, and the mark of the next three fields
    sector.extend(b"CIDA"); // volume id
    sector.extend(label_field(label));
    sector.extend(b"FAT12   ");
    // If it is booted from: int 18h, "no system here", so that the BIOS tries the next disk; else
    // halt.
    sector.extend([0xcd, 0x18, 0xf4, 0xeb, 0xfd]);
    let mut whole = [0; SECTOR];
    whole[..sector.len()].copy_from_slice(&sector);
    whole[SECTOR - 2..].copy_from_slice(&[0x55, 0xaa]);
    whole
}

/// An entry of the root folder.
fn entry(name: &[u8; 11], attributes: u8, cluster: u16, size: u32) -> [u8; 32] {
    let mut entry = [0; 32];
    entry[..11].copy_from_slice(name);
    entry[11] = attributes;
    // The earliest valid date, 1980-01-01: zero is not a date.
    entry[16..18].copy_from_slice(&[0x21, 0]);
    entry[18..20].copy_from_slice(&[0x21, 0]);
    entry[24..26].copy_from_slice(&[0x21, 0]);
    entry[26..28].copy_from_slice(&cluster.to_le_bytes());
    entry[28..].copy_from_slice(&size.to_le_bytes());
    entry
}

/// A unique short name; readers show the long one.
fn short_name(number: usize) -> [u8; 11] {
    label_field(&format!("FILE~{number}"))
}

/// The entries of a long name, last part first.
fn long_name(name: &str, short: &[u8; 11]) -> Vec<u8> {
    let checksum = short.iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let mut letters: Vec<u16> = name.bytes().map(u16::from).collect();
    if !letters.len().is_multiple_of(LONG_LETTERS) {
        letters.push(0);
        letters.resize(letters.len().next_multiple_of(LONG_LETTERS), 0xffff);
    }
    let parts = letters.len() / LONG_LETTERS;
    let mut entries = Vec::new();
    for (index, part) in letters.chunks(LONG_LETTERS).enumerate().rev() {
        let text: Vec<u8> = part.iter().flat_map(|letter| letter.to_le_bytes()).collect();
        let last = if index + 1 == parts { 0x40 } else { 0 };
        entries.push((index as u8 + 1) | last);
        entries.extend(&text[..10]);
        entries.extend([0x0f, 0, checksum]);
        entries.extend(&text[10..22]);
        entries.extend([0, 0]);
        entries.extend(&text[22..]);
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use jumpstarter_supervise::{Command, SuperviseError, run_blocking};
    use std::time::Duration;

    /// The files in an image, read by the same specification, from the image alone.
    fn read(image: &[u8]) -> Vec<(String, Vec<u8>)> {
        let word = |at: usize| usize::from(u16::from_le_bytes([image[at], image[at + 1]]));
        let (fat_at, root_entries, fat_sectors) = (word(14) * 512, word(17), word(22));
        let root_at = fat_at + usize::from(image[16]) * fat_sectors * 512;
        let data_at = root_at + root_entries * 32;
        assert_eq!(
            image[fat_at..][..fat_sectors * 512],
            image[fat_at + fat_sectors * 512..][..fat_sectors * 512]
        );
        let next = |cluster: usize| {
            let pair = word(fat_at + cluster * 3 / 2);
            if cluster.is_multiple_of(2) { pair & 0xfff } else { pair >> 4 }
        };
        let (mut files, mut long) = (Vec::new(), Vec::<u16>::new());
        for entry in image[root_at..data_at].chunks(32).take_while(|entry| entry[0] != 0) {
            match entry[11] {
                0x08 => assert_eq!(&entry[..11], b"CIDATA     "),
                0x0f => {
                    let units = [&entry[1..11], &entry[14..26], &entry[28..32]].concat();
                    let units: Vec<u16> = units
                        .chunks(2)
                        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
                        .collect();
                    long.splice(0..0, units);
                }
                _ => {
                    let name = long.drain(..).take_while(|unit| *unit != 0);
                    let name = String::from_utf16(&name.collect::<Vec<_>>()).unwrap();
                    let size = u32::from_le_bytes(entry[28..32].try_into().unwrap()) as usize;
                    let mut cluster = usize::from(u16::from_le_bytes([entry[26], entry[27]]));
                    let mut contents = Vec::new();
                    while (2..0xff8).contains(&cluster) {
                        contents.extend(&image[data_at + (cluster - 2) * 512..][..512]);
                        cluster = next(cluster);
                    }
                    assert_eq!(contents.len(), size.next_multiple_of(512));
                    contents.truncate(size);
                    files.push((name, contents));
                }
            }
        }
        files
    }

    #[track_caller]
    fn check(files: &[(&str, Vec<u8>)]) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let borrowed: Vec<_> =
            files.iter().map(|(name, contents)| (*name, contents.as_slice())).collect();
        write(&File::create(&path).unwrap(), "CIDATA", &borrowed).unwrap();
        let found = read(&std::fs::read(&path).unwrap());
        let found: Vec<_> =
            found.iter().map(|(name, contents)| (name.as_str(), contents.clone())).collect();
        assert!(found == files);
    }

    #[test]
    fn what_is_written_is_read() {
        check(&[]);
        check(&[
            ("meta-data", b"a".to_vec()),
            ("user-data", vec![7; 512]),
            ("network-config", vec![8; 513]),
        ]);
        check(&[("empty", vec![]), ("exactly-13-ab", vec![1; 5000]), ("last", b"z".to_vec())]);
        check(&[("full", (0..CLUSTERS * 512).map(|i| (i / 511) as u8).collect())]);
    }

    #[test]
    fn mtools_reads_the_same() {
        let mtools = |tool: &str, arguments: &[&str]| {
            let command = Command::new(tool).args(arguments).env("MTOOLSRC", "/dev/null");
            run_blocking(command, Duration::from_secs(30))
        };
        if let Err(SuperviseError::NotFound { .. }) = mtools("mtools", &["--version"]) {
            return jumpstarter_driver_testkit::skip("mtools is not installed");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let image = path.to_str().unwrap();
        let long = "a-name-that-takes-three-entries-of-it";
        let files = [
            ("meta-data", b"instance-id: x\n".to_vec()),
            ("user-data", (0..100_000).map(|i| (i / 511) as u8).collect()),
            ("empty", vec![]),
            (long, vec![7; 512]),
        ];
        let borrowed: Vec<_> =
            files.iter().map(|(name, contents)| (*name, contents.as_slice())).collect();
        write(&File::create(&path).unwrap(), "CIDATA", &borrowed).unwrap();
        let label = mtools("mlabel", &["-s", "-i", image, "::"]).unwrap();
        assert!(label.stdout_text().contains("CIDATA"), "{}", label.stdout_text());
        let list = mtools("mdir", &["-b", "-i", image, "::"]).unwrap();
        let names: Vec<String> = files.iter().map(|(name, _)| format!("::/{name}")).collect();
        assert_eq!(list.stdout_text().lines().collect::<Vec<_>>(), names);
        for (name, contents) in &files {
            let to = folder.path().join("copy");
            let from = format!("::{name}");
            mtools("mcopy", &["-n", "-o", "-i", image, &from, to.to_str().unwrap()]).unwrap();
            assert!(std::fs::read(&to).unwrap() == *contents, "{name}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let write = |name: &str, size: usize| {
            super::write(&tempfile::tempfile().unwrap(), "CIDATA", &[(name, &vec![0; size])])
                .map_err(|error| error.kind())
        };
        assert_eq!(write("x", CLUSTERS * 512 + 1), Err(ErrorKind::InvalidArgument));
        assert_eq!(write("é", 1), Err(ErrorKind::InvalidArgument));
    }
}
