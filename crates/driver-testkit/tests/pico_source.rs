//! The pico guest's image is what its source builds to, and what its documentation says.

use std::path::Path;
use std::time::Duration;

use jumpstarter_driver_testkit::pico::{self, command};
use jumpstarter_driver_testkit::skip;
use jumpstarter_supervise::{Command, Input, run_blocking};

const DEADLINE: Duration = Duration::from_secs(120);

/// Whether there is what the test needs; `false` comes after a skip.
fn available(programs: &[&str]) -> bool {
    if !cfg!(target_arch = "x86_64") {
        skip("the tools of another architecture than x86-64 do not build or run the pico guest");
        return false;
    }
    for program in programs {
        if let Err(error) = run_blocking(Command::new(program).args(["--version"]), DEADLINE) {
            skip(&format!("{program} is needed: {error}"));
            return false;
        }
    }
    true
}

/// The commands of `pico/README.md`, with another folder for what they write.
#[test]
fn the_image_is_what_the_source_builds_to() {
    if !available(&["as", "ld", "objcopy"]) {
        return;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("pico/pico.S");
    let folder = tempfile::tempdir().unwrap();
    for (program, arguments) in [
        ("as", "--32 --fatal-warnings -o pico.o SOURCE"),
        ("ld", "-m elf_i386 -e start -Ttext 0x7c00 -Tbss 0x1000 -o pico.elf pico.o"),
        ("objcopy", "-O binary -j .text pico.elf pico.img"),
    ] {
        let mut command = Command::new(program).current_dir(folder.path());
        for argument in arguments.split(' ') {
            command =
                if argument == "SOURCE" { command.arg(&source) } else { command.arg(argument) };
        }
        run_blocking(command, DEADLINE).unwrap();
    }
    let built = std::fs::read(folder.path().join("pico.img")).unwrap();
    let differs = built.iter().zip(pico::image()).position(|(built, shipped)| built != shipped);
    assert_eq!(
        differs, None,
        "pico.img is stale from this byte on: build it as pico/README.md says"
    );
    assert_eq!(built.len(), pico::image().len());
}

/// One boot from typed-ahead input to the power-off that ends QEMU.
#[test]
fn the_guest_does_what_is_documented() {
    if !available(&["qemu-system-x86_64"]) {
        return;
    }
    for machine in ["q35", "pc"] {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk.img");
        pico::write_to(&disk).unwrap();
        // The first byte may be lost while the machine starts: an empty name, which asks again.
        let typed = format!(
            "\nroot\r\nsecret\r{}\n{}\r\n{}\n{}\n{}\n{}\n{}\nfoo bar\n{}\n",
            command::digest(pico::LAST_SECTOR + 1),
            command::read(pico::LAST_SECTOR),
            command::write(100, "a b"),
            command::read(100),
            command::MEMORY,
            command::PROCESSORS,
            command::flood(2),
            command::POWER_OFF,
        );
        let command = Command::new("qemu-system-x86_64")
            .args(["-machine", machine, "-accel", "tcg", "-m", "48", "-smp", "2", "-nodefaults"])
            .args(["-display", "none", "-serial", "stdio", "-drive"])
            .arg(format!("if=virtio,format=raw,file={}", disk.display()))
            .stdin(Input::Bytes(typed.into_bytes()));
        let console = run_blocking(command, DEADLINE).unwrap().stdout_text();

        let (_, session) = console.split_once(&format!("{}\r\n", pico::BANNER)).unwrap();
        let session = session.trim_start_matches("login: \r\n");
        let expected = [
            "login: root".to_owned(),
            pico::PASSWORD_PROMPT.to_owned(),
            "pico# digest 1024".to_owned(),
            pico::digest_line(pico::image()),
            "pico# read 1023".to_owned(),
            pico::sector_line(pico::LAST_SECTOR, pico::LAST_TEXT),
            "pico# write 100 a b".to_owned(),
            "wrote sector 100".to_owned(),
            "pico# read 100".to_owned(),
            pico::sector_line(100, "a b"),
            "pico# mem".to_owned(),
            "mem 48 MiB".to_owned(),
            "pico# cpus".to_owned(),
            "cpus 2".to_owned(),
            "pico# flood 2".to_owned(),
            pico::flood_line(1),
            pico::flood_line(2),
            "pico# foo bar".to_owned(),
            "unknown command: foo".to_owned(),
            "pico# poweroff".to_owned(),
            pico::POWER_OFF_LINE.to_owned(),
        ];
        assert_eq!(session, expected.join("\r\n") + "\r\n", "on {machine}");
        assert_eq!(&std::fs::read(&disk).unwrap()[100 * pico::SECTOR_SIZE..][..4], b"a b\0");
    }
}
