//! A machine whose QEMU runs behind the launcher, as in the sidecar of a pod. The launcher has a
//! separate mount namespace, with files that the exporter does not see.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "the helpers of tests are no tests to clippy")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use jumpstarter_console::Console;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_qemu::{Accel, Architecture, Machine, Phase, Qemu, QemuConfig, Vm};
use jumpstarter_driver_testkit::guest::{Arch, qemu_available, qemu_img_available};
use jumpstarter_driver_testkit::processes::{descendants, find};
use jumpstarter_driver_testkit::{eventually, pico, skip};
use jumpstarter_supervise::{Child, Command, Signal, SuperviseError, run};

/// For what takes a second on an idle machine.
const SOON: Duration = Duration::from_secs(60);

/// The sidecar, and the volume that it shares with the exporter.
struct Sidecar {
    server: Child,
    volume: tempfile::TempDir,
    /// A folder that is empty for the exporter.
    only_there: PathBuf,
}

impl Sidecar {
    /// Starts it with these files in the folder that only it sees; `None` where that cannot be.
    async fn start(files: &[(&str, &Path)]) -> Option<Self> {
        if !qemu_available(Arch::X86_64) {
            return None;
        }
        if run(Command::new("unshare").args(["-m", "true"]), SOON).await.is_err() {
            skip("a mount namespace cannot be made here");
            return None;
        }
        let volume = tempfile::tempdir().unwrap();
        let (image, only_there) = (volume.path().join("image"), volume.path().join("empty"));
        for folder in [&image, &only_there] {
            std::fs::create_dir(folder).unwrap();
        }
        for (name, source) in files {
            std::fs::copy(source, image.join(name)).unwrap();
        }
        let script = r#"mount --bind "$1" "$2" && exec "$3" serve --socket "$4""#;
        let socket = volume.path().join("launcher.sock");
        let server = Command::new("unshare")
            .args(["-m", "sh", "-c", script, "sh"])
            .args([&image, &only_there])
            .arg(env!("CARGO_BIN_EXE_jumpstarter-exec"))
            .arg(&socket)
            .spawn()
            .await
            .unwrap();
        eventually("it listens", || server.stderr_tail().contains("listening")).await;
        Some(Self { server, volume, only_there })
    }

    fn config(&self) -> QemuConfig {
        config(self.volume.path())
    }

    /// A machine that boots pico from the volume.
    async fn machine(&self, change: impl FnOnce(&mut QemuConfig)) -> Vm {
        let mut config = self.config();
        let image = self.volume.path().join("pico.img");
        pico::write_to(&image).unwrap();
        config.default_partitions.root = Some(image.into());
        change(&mut config);
        Vm::create("sidecar", config).await.unwrap()
    }

    /// The folders of machines on the volume.
    fn folders(&self) -> usize {
        let entries = std::fs::read_dir(self.volume.path()).unwrap();
        entries
            .filter(|entry| {
                entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("jmp-")
            })
            .count()
    }
}

/// A machine whose sidecar shares this volume.
fn config(volume: &Path) -> QemuConfig {
    let mut config = QemuConfig::default();
    config.arch = Some(Architecture::X86_64);
    config.accel = Accel::Tcg;
    (config.mem, config.smp) = (ByteSize::mebibytes(64), 1);
    config.launcher_socket = Some(volume.join("launcher.sock").into());
    config
}

async fn log_in(vm: &Vm) -> Console {
    let mut console = Console::new(vm.open_console().unwrap());
    for (prompt, answer) in [(pico::LOGIN_PROMPT, "root"), (pico::PASSWORD_PROMPT, "x")] {
        console.wait_for(prompt, SOON).await.unwrap();
        console.send_line(answer).await.unwrap();
    }
    console.wait_for(pico::PROMPT, SOON).await.unwrap();
    console
}

#[tokio::test]
async fn a_machine_runs_in_the_sidecar() {
    let Some(sidecar) = Sidecar::start(&[]).await else { return };
    let vm = sidecar.machine(|_| {}).await;
    for _ in 0..2 {
        vm.start().await.unwrap();
        log_in(&vm).await;
        let pid = vm.pid().unwrap();
        let below = descendants(sidecar.server.pid());
        assert!(below.iter().any(|process| process.id == pid), "{pid}: {below:?}");
        vm.pause().await.unwrap();
        assert_eq!(vm.state().await.unwrap().phase(), Phase::Paused);
        vm.resume().await.unwrap();
        tokio::net::UnixStream::connect(vm.vnc_path()).await.unwrap();
        vm.cut().await.unwrap();
        assert!(find(pid).is_none());
    }
    vm.start().await.unwrap();
    assert_eq!(sidecar.folders(), 1);
    vm.destroy().await.unwrap();
    assert_eq!(sidecar.folders(), 0);
    eventually("QEMU has ended", || descendants(sidecar.server.pid()).is_empty()).await;
}

#[tokio::test]
async fn firmware_is_taken_from_the_sidecar() {
    let bios = Path::new("/usr/share/seabios/bios-256k.bin");
    if !bios.exists() {
        return skip("there is no SeaBIOS here");
    }
    let Some(sidecar) = Sidecar::start(&[("bios", bios)]).await else { return };
    let only_there = sidecar.only_there.join("bios");
    assert!(!only_there.exists());
    let vm = sidecar
        .machine(|config| {
            config.default_partitions.bios = Some(only_there.into());
            // As an ExporterSet's controller names it, whether it is there or not.
            config.default_partitions.ovmf_code = Some("/nowhere/OVMF_CODE.fd".into());
            config.default_partitions.ovmf_vars = Some("/nowhere/OVMF_VARS.fd".into());
        })
        .await;
    vm.start().await.unwrap();
    log_in(&vm).await;
    vm.close().await.unwrap();
}

#[tokio::test]
async fn what_the_sidecar_lacks_is_named() {
    let Some(sidecar) = Sidecar::start(&[]).await else { return };
    let mut config = sidecar.config();
    config.binary = Some("qemu-nowhere".into());
    let error = Vm::create("sidecar", config).await.unwrap_err();
    assert!(error.report().contains("no program `qemu-nowhere` in the sidecar"), "{error:?}");

    // A file of one container: the bind mount hides it from the other.
    let hidden = sidecar.only_there.join("os.img");
    pico::write_to(&hidden).unwrap();
    let mut config = sidecar.config();
    config.default_partitions.root = Some(hidden.into());
    let error = Vm::create("sidecar", config).await.unwrap_err();
    assert!(error.report().contains("where QEMU runs, has no"), "{error:?}");

    let mut config = sidecar.config();
    config.launcher_socket = Some("/nowhere/launcher.sock".into());
    let error = Vm::create("sidecar", config).await.unwrap_err();
    assert!(error.hint().unwrap().contains("jumpstarter-exec serve"), "{error:?}");
    eventually("no folder is left", || sidecar.folders() == 0).await;
}

#[tokio::test]
async fn an_image_that_does_not_fit_the_volume_is_refused() {
    let Some(sidecar) = Sidecar::start(&[]).await else { return };
    let vm = Vm::create("sidecar", sidecar.config()).await.unwrap();
    let device = Device::of_driver(Qemu::new(vm));
    let flasher = device.get::<dyn Flasher>("flasher").unwrap();
    let large = sidecar.volume.path().join("large.img");
    let file = std::fs::File::create(&large).unwrap();
    file.set_len(200 << 20).unwrap();
    let error = flasher.flash(ImageSource::path(&large), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    let report = error.report();
    assert!(report.contains("of 100 MiB left") && report.contains("flash_limit"), "{report}");
    file.set_len(1 << 20).unwrap();
    flasher.flash(ImageSource::path(&large), None).await.unwrap();
    device.close().await.unwrap();
}

#[tokio::test]
async fn a_sidecar_that_ends_is_noticed() {
    let Some(sidecar) = Sidecar::start(&[]).await else { return };
    let vm = sidecar.machine(|_| {}).await;
    vm.start().await.unwrap();
    let pid = vm.pid().unwrap();
    sidecar.server.signal(Signal::KILL);
    vm.wait_for(Phase::Crashed, Some(Span::seconds(60))).await.unwrap();
    eventually("QEMU has ended", || find(pid).is_none()).await;
    let error = vm.start().await.unwrap_err();
    assert!(error.report().contains("through the launcher"), "{error:?}");
    vm.destroy().await.unwrap();
}

/// In the process of an exporter without QEMU's tools: the volume that it shares with the sidecar.
const VOLUME: &str = "JUMPSTARTER_TEST_VOLUME";

#[tokio::test]
async fn an_exporter_without_qemu_img_uses_that_of_the_sidecar() {
    if let Some(volume) = std::env::var_os(VOLUME) {
        return vmdk_is_flashed_grown_and_dumped(Path::new(&volume)).await;
    }
    if !qemu_img_available() {
        return;
    }
    let Some(sidecar) = Sidecar::start(&[]).await else { return };
    let volume = sidecar.volume.path();
    let raw = volume.join("pico.img");
    pico::write_to(&raw).unwrap();
    let convert = Command::new("qemu-img").args(["convert", "-O", "vmdk"]);
    run(convert.arg(&raw).arg(volume.join("pico.vmdk")), SOON).await.unwrap();
    let create = Command::new("qemu-img").args(["create", "-f", "qcow2"]);
    run(create.arg(volume.join("damaged")).arg("1M"), SOON).await.unwrap();
    let exporter = Command::new(std::env::current_exe().unwrap())
        .args(["an_exporter_without_qemu_img_uses_that_of_the_sidecar", "--exact", "--nocapture"])
        .env("PATH", &sidecar.only_there)
        .env(VOLUME, volume);
    run(exporter, 3 * SOON).await.unwrap();
}

/// Its file has to be inspected, its overlay resized and its disk converted by qemu-img.
async fn vmdk_is_flashed_grown_and_dumped(volume: &Path) {
    let here = run(Command::new("qemu-img").arg("--version"), SOON).await.unwrap_err();
    assert!(matches!(here, SuperviseError::NotFound { .. }), "{here}");
    let vm = Vm::create("sidecar", config(volume)).await.unwrap();
    let device = Device::of_driver(Qemu::new(vm.clone()));
    let flasher = device.get::<dyn Flasher>("flasher").unwrap();

    // The first-level table lies outside of what QEMU accepts.
    let mut damaged = std::fs::read(volume.join("damaged")).unwrap();
    damaged[40..48].fill(0xff);
    let refused = flasher.flash(ImageSource::bytes(damaged), None).await.unwrap_err();
    assert!(refused.report().contains("QEMU does not open the qcow2 image"), "{refused:?}");

    flasher.flash(ImageSource::path(volume.join("pico.vmdk")), None).await.unwrap();
    vm.start().await.unwrap();
    log_in(&vm).await;
    vm.cut().await.unwrap();
    device.call("", "set_disk_size", vec!["1M".into()]).await.unwrap();
    vm.start().await.unwrap();
    let mut console = log_in(&vm).await;
    console.send_line(pico::command::DISK).await.unwrap();
    console.wait_for("disk 2048 sectors", SOON).await.unwrap();
    vm.cut().await.unwrap();

    let dump = volume.join("dump");
    flasher.dump(ImageSink::path(&dump), None).await.unwrap();
    let mut expected = pico::image().to_vec();
    expected.resize(1 << 20, 0);
    assert!(std::fs::read(&dump).unwrap() == expected, "the dump differs");
    device.close().await.unwrap();
}
