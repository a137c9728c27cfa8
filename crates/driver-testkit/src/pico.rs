//! The pico guest: a disk image that boots to a login in a fraction of a second.
//!
//! For tests of virtual machines that need *any* guest. It boots from a BIOS disk (QEMU's `q35` and
//! `pc`, any disk that SeaBIOS boots), talks on the first serial port, obeys the ACPI power button,
//! and powers off, resets, crashes or hangs on command. `pico/README.md` in this crate lists its
//! commands and output; `pico/pico.S` is its source. A test needs this much:
//!
//! ```text
//! <CR LF>
//! pico guest 1                BANNER
//! login: root                 LOGIN_PROMPT; any name
//! Password:                   PASSWORD_PROMPT; any password, not echoed
//! pico# digest 1024           PROMPT
//! crc32 1a2b3c4d              digest_line(image())
//! pico# poweroff              command::POWER_OFF
//! power off                   POWER_OFF_LINE
//! ```
//!
//! Its lines end with CR LF. Input is echoed; CR, LF and CR LF end a line. Bytes sent before the
//! first `login: ` may be lost, and so is a press of the power button before the banner.

use std::io;
use std::path::Path;

/// The image, as `pico/pico.S` builds it.
static IMAGE: &[u8] = include_bytes!("../pico/pico.img");

/// Size of a disk sector in bytes, as the commands of the guest count them.
pub const SECTOR_SIZE: usize = 512;

/// The guest's first line.
pub const BANNER: &str = "pico guest 1";

/// Asks for a name; any but the empty one will do.
pub const LOGIN_PROMPT: &str = "login: ";

/// Asks for a password, without echo; any will do.
pub const PASSWORD_PROMPT: &str = "Password: ";

/// Asks for a command.
pub const PROMPT: &str = "pico# ";

/// Written, behind an empty line, when the power button was pressed; [`POWER_OFF_LINE`] follows.
pub const POWER_BUTTON_LINE: &str = "power button";

/// Written right before the guest powers off.
pub const POWER_OFF_LINE: &str = "power off";

/// Written right before [`command::REBOOT`] resets the machine.
pub const REBOOT_LINE: &str = "rebooting";

/// Written right before [`command::PANIC`] crashes the guest.
pub const PANIC_LINE: &str = "panic: as asked";

/// Written right before [`command::HANG`] stops the guest.
pub const HANG_LINE: &str = "hanging";

/// Written by [`command::IGNORE_POWER_BUTTON`].
pub const IGNORE_LINE: &str = "power button ignored";

/// The first sector that [`command::write`] may write to; as shipped it holds
/// [`FIRST_SCRATCH_TEXT`].
pub const FIRST_SCRATCH_SECTOR: u32 = 32;

/// The text in [`FIRST_SCRATCH_SECTOR`] of an image that no guest has written to.
pub const FIRST_SCRATCH_TEXT: &str = "as shipped";

/// The last sector of the image; as shipped it holds [`LAST_TEXT`].
pub const LAST_SECTOR: u32 = 1023;

/// The text in [`LAST_SECTOR`] of an image that no guest has written to.
pub const LAST_TEXT: &str = "last sector as shipped";

/// Length of a line of [`command::flood`] in characters, without CR LF.
pub const FLOOD_LINE_LENGTH: usize = 64;

/// The commands for the [`PROMPT`], without the line's end.
pub mod command {
    /// Powers off over ACPI: QEMU ends, with the event `SHUTDOWN` by `guest-shutdown`.
    pub const POWER_OFF: &str = "poweroff";

    /// Resets the machine: one or more `RESET` events, then the banner again.
    pub const REBOOT: &str = "reboot";

    /// Crashes: with `-device pvpanic` the event `GUEST_PANICKED`, else a triple fault, which
    /// resets.
    pub const PANIC: &str = "panic";

    /// Stops for good: the guest takes neither input nor the power button, and uses no processor
    /// time.
    pub const HANG: &str = "hang";

    /// Ignores the power button until the next reset.
    pub const IGNORE_POWER_BUTTON: &str = "ignore";

    /// Writes `mem 64 MiB`: the size of the memory.
    pub const MEMORY: &str = "mem";

    /// Writes `cpus 2`: the number of processors.
    pub const PROCESSORS: &str = "cpus";

    /// Writes `disk 1024 sectors`: the size of the disk as the guest sees it.
    pub const DISK: &str = "disk";

    /// Writes `tick 1`, `tick 2` and so on every 0.2 s of the guest's time, until a byte is
    /// received.
    pub const TICKS: &str = "ticks";

    /// Returns to the login.
    pub const LOG_OUT: &str = "logout";

    /// Writes the [`digest_line`](super::digest_line) of the first `sectors` of the disk.
    #[must_use]
    pub fn digest(sectors: u32) -> String {
        format!("digest {sectors}")
    }

    /// Writes [`sector_line`](super::sector_line) with the text in the sector.
    #[must_use]
    pub fn read(sector: u32) -> String {
        format!("read {sector}")
    }

    /// Writes the text (one line, below 480 bytes) to the sector, from
    /// [`FIRST_SCRATCH_SECTOR`](super::FIRST_SCRATCH_SECTOR) on, and prints `wrote sector N`.
    #[must_use]
    pub fn write(sector: u32, text: &str) -> String {
        format!("write {sector} {text}")
    }

    /// Writes that many [`flood_line`](super::flood_line)s as fast as the reader accepts them. Only
    /// the power button, or a reset, stops it.
    #[must_use]
    pub fn flood(lines: u32) -> String {
        format!("flood {lines}")
    }
}

/// The image: a raw disk of 512 KiB, mostly zeros, to be flashed as it is, or onto a larger disk.
#[must_use]
pub fn image() -> &'static [u8] {
    IMAGE
}

/// Writes the [image](image()) to a file, which is created or replaced.
///
/// # Errors
///
/// The system's error, with the file's path.
pub fn write_to(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    std::fs::write(path, IMAGE).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("writing the pico guest's image to {}: {error}", path.display()),
        )
    })
}

/// The output of [`command::digest`] for a disk that begins with `bytes` (whole sectors): `crc32
/// 1a2b3c4d`.
#[must_use]
pub fn digest_line(bytes: &[u8]) -> String {
    format!("crc32 {:08x}", crc32(bytes))
}

/// The output of [`command::read`] for a sector with this text.
#[must_use]
pub fn sector_line(sector: u32, text: &str) -> String {
    format!("sector {sector}: {text}")
}

/// The line of [`command::flood`] with this number, counted from 1.
#[must_use]
pub fn flood_line(number: u32) -> String {
    format!("{number:010} abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/")
}

/// CRC-32 as in IEEE 802.3, gzip and PNG.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = crc32_table();
    !bytes.iter().fold(!0, |crc, byte| (crc >> 8) ^ TABLE[usize::from((crc as u8) ^ byte)])
}

const fn crc32_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_usual_crc32() {
        // The check value of CRC-32/ISO-HDLC in the catalogue of parametrised CRC algorithms.
        assert_eq!(digest_line(b"123456789"), "crc32 cbf43926");
        assert_eq!(digest_line(b""), "crc32 00000000");
    }

    #[test]
    fn the_image_is_a_boot_disk_with_the_texts_that_are_documented() {
        let sector = |number: u32| &IMAGE[number as usize * SECTOR_SIZE..][..SECTOR_SIZE];
        assert_eq!(IMAGE.len(), (LAST_SECTOR as usize + 1) * SECTOR_SIZE);
        assert_eq!(sector(0)[510..], [0x55, 0xaa]);
        assert!(
            sector(FIRST_SCRATCH_SECTOR).starts_with(format!("{FIRST_SCRATCH_TEXT}\0").as_bytes())
        );
        assert!(sector(LAST_SECTOR).starts_with(format!("{LAST_TEXT}\0").as_bytes()));
        for text in
            [BANNER, LOGIN_PROMPT, PASSWORD_PROMPT, PROMPT, POWER_BUTTON_LINE, POWER_OFF_LINE]
        {
            assert!(
                IMAGE.windows(text.len()).any(|window| window == text.as_bytes()),
                "{text} is not in it"
            );
        }
        assert_eq!(flood_line(u32::MAX).len(), FLOOD_LINE_LENGTH);
    }

    #[test]
    fn an_image_that_cannot_be_written_is_an_error_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/disk.img");
        let error = write_to(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");

        let path = folder.path().join("disk.img");
        write_to(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), image());
    }
}
