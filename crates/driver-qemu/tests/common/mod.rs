//! A machine with the pico guest, and what the tests of machines share.

#![expect(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use jumpstarter_console::Console;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_qemu::{Accel, Architecture, QemuConfig, Vm};
use jumpstarter_driver_testkit::guest::{Arch, qemu_available};
use jumpstarter_driver_testkit::pico;

/// For whatever takes milliseconds on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A machine and the folder of its configured image.
pub(crate) struct Fixture {
    pub(crate) vm: Vm,
    pub(crate) image: PathBuf,
    _folder: tempfile::TempDir,
}

/// Whether machines can run here; else the test is skipped, and says so.
pub(crate) fn can_run() -> bool {
    qemu_available(Arch::X86_64)
}

/// The configuration of a small machine that boots `image`.
pub(crate) fn config(image: impl Into<PathBuf>) -> QemuConfig {
    let mut config = QemuConfig::default();
    config.arch = Some(Architecture::X86_64);
    config.accel = Accel::Tcg;
    (config.mem, config.smp) = (ByteSize::mebibytes(64), 1);
    config.default_partitions.root = Some(image.into().into());
    config.timeouts.shutdown = Span::seconds(20);
    config
}

/// A machine of the pico guest.
pub(crate) async fn pico_machine(change: impl FnOnce(&mut QemuConfig)) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("pico.img");
    pico::write_to(&image).unwrap();
    let mut config = config(&image);
    change(&mut config);
    let vm = Vm::create("pico", config).await.unwrap();
    Fixture { vm, image, _folder: folder }
}

impl Fixture {
    /// A console of the guest.
    pub(crate) fn console(&self) -> Console {
        Console::new(self.vm.open_console().unwrap())
    }

    /// A console that is logged in.
    pub(crate) async fn logged_in(&self) -> Console {
        let mut console = self.console();
        log_in(&mut console).await;
        console
    }
}

pub(crate) async fn log_in(console: &mut Console) {
    console.wait_for(pico::LOGIN_PROMPT, SOON).await.unwrap();
    console.send_line("root").await.unwrap();
    console.wait_for(pico::PASSWORD_PROMPT, SOON).await.unwrap();
    console.send_line("x").await.unwrap();
    console.wait_for(pico::PROMPT, SOON).await.unwrap();
}

/// Sends a command and waits for a line in its answer.
pub(crate) async fn ask(console: &mut Console, command: &str, answer: &str) {
    console.send_line(command).await.unwrap();
    console.wait_for(answer, SOON).await.unwrap();
    console.wait_for(pico::PROMPT, SOON).await.unwrap();
}

/// Whether a process is there (and no zombie).
pub(crate) fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().starts_with(" Z"))
}

/// Makes a shell script to be started as QEMU.
pub(crate) fn program(folder: &Path, script: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("qemu");
    std::fs::write(&path, format!("#!/bin/sh\n{script}")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}
