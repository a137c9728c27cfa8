//! Archives in cpio's "new ASCII" format, as the kernel unpacks them (its documentation: "initramfs
//! buffer format"). Everything belongs to root, and the times are zero, so equal content makes an
//! equal archive.

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;

/// An archive under construction.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    /// Adds a folder. Its parent has to be added before it.
    pub(crate) fn folder(&mut self, path: &str) {
        self.entry(path, FOLDER | 0o755, &[]);
    }

    /// Adds a file with the permissions `mode`.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path, FILE | mode, content);
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.inode += 1;
        let size = u32::try_from(content.len()).expect("initramfs files are smaller than 4 GiB");
        let name_size = u32::try_from(path.len() + 1).expect("paths are short");
        let links = if mode & FOLDER == 0 { 1 } else { 2 };
        self.bytes.extend(b"070701");
        // inode mode uid gid links time size device(major minor) special(major minor) name-size
        // checksum
        for field in [self.inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0] {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(path.bytes().chain([0]));
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_names_and_contents_are_aligned() {
        let mut archive = Archive::default();
        archive.folder("etc");
        archive.file("etc/x", 0o640, b"hello");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let second = 110 + 4 + 2; // header, "etc\0", padding
        assert_eq!(&bytes[second..second + 6], b"070701");
        let mode = std::str::from_utf8(&bytes[second + 14..second + 22]).unwrap();
        assert_eq!(u32::from_str_radix(mode, 16).unwrap(), 0o100_640);
        let content = (second + 110 + 6).next_multiple_of(4);
        assert_eq!(&bytes[content..content + 8], b"hello\0\0\0");
    }
}
