//! What a tester sees: the machine's screen, over VNC.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;

use common::{SOON, can_run, config, pico_machine};
use jumpstarter_driver_core::Channel;
use jumpstarter_driver_qemu::{Architecture, Firmware, Machine, Vm};
use jumpstarter_driver_testkit::skip;
use jumpstarter_screen::{Picture, Screen};
use tokio::net::UnixStream;

async fn connect(path: &Path) -> Screen {
    let stream = UnixStream::connect(path).await.unwrap();
    Screen::open(Channel::from_io(stream), None).await.unwrap()
}

/// The cells of a text mode, which are 9 pixels wide and 16 high: which of their pixels are lit.
fn lines(picture: &Picture) -> Vec<Vec<Vec<bool>>> {
    let width = usize::from(picture.width());
    let rows: Vec<&[u32]> = picture.pixels().chunks_exact(width).collect();
    let cell = |line: &[&[u32]], column: usize| {
        let pixels = line.iter().flat_map(|row| &row[column * 9..column * 9 + 9]);
        pixels.map(|pixel| *pixel != 0).collect()
    };
    let line = |line: &[&[u32]]| (0..width / 9).map(|column| cell(line, column)).collect();
    rows.chunks_exact(16).map(line).collect()
}

/// Whether a text is there, without knowing the font: equal letters look alike, others do not,
/// blanks are dark.
fn shows(picture: &Picture, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let is_it = |cells: &[Vec<bool>]| {
        let dark = |cell: &[bool]| !cell.contains(&true);
        (0..text.len()).all(|one| {
            dark(&cells[one]) == (text[one] == ' ')
                && (0..one).all(|other| (cells[one] == cells[other]) == (text[one] == text[other]))
        })
    };
    lines(picture).iter().any(|line| line.windows(text.len()).any(is_it))
}

/// Looks until a text is there.
async fn text_appears(vm: &Vm, text: &str) {
    let mut width = 0;
    let reading = async {
        let mut screen = connect(&vm.vnc_path()).await;
        loop {
            let picture = screen.snapshot().await.unwrap();
            width = picture.width();
            if shows(&picture, text) {
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
    let mut screen = connect(&vm.vnc_path()).await;
    let mut seen = (0, 0);
    let reading = async {
        // Before the firmware draws, QEMU says that nobody does, on 640 by 480.
        while seen.0 <= 720 || seen.1 < 1000 {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            let picture = screen.snapshot().await.unwrap();
            let lit = picture.pixels().iter().filter(|pixel| **pixel != 0).count();
            seen = (picture.width(), lit);
        }
    };
    let drawn = tokio::time::timeout(4 * SOON, reading).await;
    assert!(drawn.is_ok(), "{} lit pixels on a screen {} pixels wide", seen.1, seen.0);
}
