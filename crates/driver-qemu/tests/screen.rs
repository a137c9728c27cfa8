//! What a tester sees: the machine's screen, by a VNC client of ours (RFC 6143).

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;

use common::{SOON, can_run, config, pico_machine};
use jumpstarter_driver_qemu::{Architecture, Firmware, Machine, Vm};
use jumpstarter_driver_testkit::skip;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// A picture, row by row, as 0x00RRGGBB.
struct Picture {
    width: usize,
    pixels: Vec<u32>,
}

/// A client that asks for raw pixels.
struct Viewer(UnixStream);

impl Viewer {
    async fn connect(path: &Path) -> Self {
        let mut stream = UnixStream::connect(path).await.unwrap();
        let mut version = [0; 12];
        stream.read_exact(&mut version).await.unwrap();
        assert_eq!(&version, b"RFB 003.008\n");
        stream.write_all(&version).await.unwrap();
        let mut kinds = vec![0; usize::from(stream.read_u8().await.unwrap())];
        stream.read_exact(&mut kinds).await.unwrap();
        assert!(kinds.contains(&1), "no security is among {kinds:?}");
        stream.write_u8(1).await.unwrap();
        assert_eq!(stream.read_u32().await.unwrap(), 0, "security result");
        // Others may look, too.
        stream.write_u8(1).await.unwrap();
        let mut server = [0; 20];
        stream.read_exact(&mut server).await.unwrap();
        let mut name = vec![0; stream.read_u32().await.unwrap() as usize];
        stream.read_exact(&mut name).await.unwrap();
        // 32 bits a pixel, little endian, red at 16, green at 8, blue at 0; and raw pixels, or a
        // new size of the screen.
        stream
            .write_all(&[0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0])
            .await
            .unwrap();
        stream.write_all(&[2, 0, 0, 2, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x21]).await.unwrap();
        Self(stream)
    }

    /// The whole screen as it is.
    async fn look(&mut self) -> Picture {
        self.0.write_all(&[3, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]).await.unwrap();
        let (mut width, mut pixels) = (0, Vec::new());
        loop {
            match self.0.read_u8().await.unwrap() {
                0 => {}
                // A colour map, a bell, a text of the clipboard.
                2 => continue,
                other => panic!("message {other}"),
            }
            self.0.read_u8().await.unwrap();
            for _ in 0..self.0.read_u16().await.unwrap() {
                let mut place = [0; 4];
                for number in &mut place {
                    *number = usize::from(self.0.read_u16().await.unwrap());
                }
                let [x, y, w, h] = place;
                if self.0.read_i32().await.unwrap() == -223 {
                    (width, pixels) = (w, vec![0; w * h]);
                    continue;
                }
                if x + w > width {
                    (width, pixels) = (x + w, vec![0; (x + w) * (y + h)]);
                }
                pixels.resize(pixels.len().max(width * (y + h)), 0);
                let mut bytes = vec![0; w * h * 4];
                self.0.read_exact(&mut bytes).await.unwrap();
                for (index, pixel) in bytes.chunks_exact(4).enumerate() {
                    let value = u32::from_le_bytes(pixel.try_into().unwrap()) & 0x00ff_ffff;
                    pixels[(y + index / w) * width + x + index % w] = value;
                }
            }
            if !pixels.is_empty() {
                return Picture { width, pixels };
            }
        }
    }
}

impl Picture {
    /// The cells of a text mode, which are 9 pixels wide and 16 high: which of their pixels are
    /// lit.
    fn lines(&self) -> Vec<Vec<Vec<bool>>> {
        let rows: Vec<&[u32]> = self.pixels.chunks_exact(self.width).collect();
        let cell = |line: &[&[u32]], column: usize| {
            let pixels = line.iter().flat_map(|row| &row[column * 9..column * 9 + 9]);
            pixels.map(|pixel| *pixel != 0).collect()
        };
        let line = |line: &[&[u32]]| (0..self.width / 9).map(|column| cell(line, column)).collect();
        rows.chunks_exact(16).map(line).collect()
    }

    /// Whether a text is there, without knowing the font: equal letters look alike, others do not,
    /// blanks are dark.
    fn shows(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let is_it = |cells: &[Vec<bool>]| {
            let dark = |cell: &[bool]| !cell.contains(&true);
            (0..text.len()).all(|one| {
                dark(&cells[one]) == (text[one] == ' ')
                    && (0..one)
                        .all(|other| (cells[one] == cells[other]) == (text[one] == text[other]))
            })
        };
        self.lines().iter().any(|line| line.windows(text.len()).any(is_it))
    }
}

/// Looks until a text is there.
async fn text_appears(vm: &Vm, text: &str) {
    let mut width = 0;
    let reading = async {
        let mut viewer = Viewer::connect(&vm.vnc_path()).await;
        loop {
            let picture = viewer.look().await;
            width = picture.width;
            if picture.shows(text) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let seen = tokio::time::timeout(SOON, reading).await;
    assert!(seen.is_ok(), "`{text}` is not on the screen, which is {width} pixels wide");
}

#[tokio::test]
async fn a_tester_sees_what_the_bios_says() {
    if !can_run() {
        return;
    }
    let mut bare = config("/none");
    bare.default_partitions.root = None;
    let vm = Vm::create("bare", bare).await.unwrap();
    vm.start().await.unwrap();
    text_appears(&vm, "SeaBIOS (version ").await;
    text_appears(&vm, "No bootable device.").await;

    let fixture = pico_machine(|_| {}).await;
    fixture.vm.start().await.unwrap();
    text_appears(&fixture.vm, "Booting from Hard Disk").await;
}

#[tokio::test]
async fn a_tester_sees_what_uefi_shows() {
    if !can_run() {
        return;
    }
    let Some(firmware) = Firmware::find(Architecture::X86_64) else {
        return skip("there is no UEFI firmware for x86_64");
    };
    let mut uefi = config("/none");
    let partitions = &mut uefi.default_partitions;
    partitions.root = None;
    partitions.ovmf_code = Some(firmware.code.into());
    partitions.ovmf_vars = firmware.vars.map(Into::into);
    uefi.mem = jumpstarter_driver_core::ByteSize::mebibytes(256);
    let vm = Vm::create("uefi", uefi).await.unwrap();
    vm.start().await.unwrap();
    let mut viewer = Viewer::connect(&vm.vnc_path()).await;
    let mut seen = (0, 0);
    let reading = async {
        // Before the firmware draws, QEMU says that nobody does, on 640 by 480.
        while seen.0 <= 720 || seen.1 < 1000 {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            let picture = viewer.look().await;
            seen = (picture.width, picture.pixels.iter().filter(|pixel| **pixel != 0).count());
        }
    };
    let drawn = tokio::time::timeout(4 * SOON, reading).await;
    assert!(drawn.is_ok(), "{} lit pixels on a screen {} pixels wide", seen.1, seen.0);
}
