//! What QEMU finds around it on the host, and what of the host it is kept from.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Fixture, SOON, ask, can_run, config, pico_machine};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_qemu::{HostForward, Machine, MachineState, Phase, Qemu, Sandbox, Vm};
use jumpstarter_driver_testkit::{pico, skip};
use jumpstarter_supervise::{Command, run, run_unchecked};

/// The limit of a test that runs in a separate process.
const LONG: Duration = Duration::from_secs(120);
/// Names the folder of such a test.
const FOLDER: &str = "QEMU_TEST_FOLDER";

fn folder_of_role() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// This program, to run one of its tests in a separate process.
fn role(name: &str, folder: &Path) -> Command {
    let program = std::env::current_exe().unwrap();
    Command::new(program).args(["--exact", name, "--nocapture"]).env(FOLDER, folder)
}

/// A line of `/proc/PID/status` of QEMU.
fn status(fixture: &Fixture, key: &str) -> String {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", fixture.vm.pid().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

#[tokio::test]
async fn qemu_runs_in_its_sandbox_and_without_the_exporters_environment() {
    if !can_run() {
        return;
    }
    let fixture = pico_machine(|_| {}).await;
    fixture.vm.start().await.unwrap();
    fixture.logged_in().await;
    let environment =
        std::fs::read(format!("/proc/{}/environ", fixture.vm.pid().unwrap())).unwrap();
    let environment = String::from_utf8_lossy(&environment).into_owned();
    let names: Vec<&str> =
        environment.split('\0').filter_map(|variable| Some(variable.split_once('=')?.0)).collect();
    // A test has dozens of other variables.
    let known =
        ["PATH", "HOME", "TMPDIR", "TZ", "LANG", "LD_LIBRARY_PATH", "QEMU_MODULE_DIR", "DISPLAY"];
    let others = ["WAYLAND_DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR"];
    let families = ["LC_", "JUMPSTARTER_TEST_"];
    let is_known = |name: &&str| {
        let of_a_family = families.iter().any(|family| name.starts_with(family));
        known.contains(name) || others.contains(name) || of_a_family
    };
    assert!(names.contains(&"PATH") && names.iter().all(is_known), "{names:?}");

    if let Sandbox::Unusable(why) = &fixture.vm.host().sandbox {
        return skip(why);
    }
    assert_eq!(
        (status(&fixture, "Seccomp"), status(&fixture, "NoNewPrivs")),
        ("2".into(), "1".into())
    );
    let off = vec!["-sandbox".to_owned(), "off".to_owned()];
    let fixture = pico_machine(|config| config.extra_args = off).await;
    fixture.vm.start().await.unwrap();
    assert_eq!(status(&fixture, "Seccomp"), "0");
}

/// Run in a separate process by the test below, in a folder that it deletes.
#[tokio::test]
async fn machines_of_a_deleted_folder() {
    let Some(folder) = folder_of_role() else { return };
    let (relative, absolute) = ("pico.img", folder.join("pico.img"));
    pico::write_to(&absolute).unwrap();
    // Opened while the folder was there, by a relative path.
    let before = Vm::create("before", config(relative)).await.unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::rename(&absolute, elsewhere.path().join("pico.img")).unwrap();
    std::fs::remove_dir(&folder).unwrap();
    assert!(std::env::current_dir().is_err());
    let error = Vm::create("late", config(relative)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    let said = error.report();
    assert!(said.contains("default_partitions.root: pico.img is relative"), "{said}");
    assert!(error.hint().unwrap().contains("absolute path"), "{error:?}");

    let error = before.start().await.unwrap_err();
    assert!(error.report().contains(&absolute.display().to_string()), "{}", error.report());
    std::fs::create_dir(&folder).unwrap();
    std::fs::rename(elsewhere.path().join("pico.img"), &absolute).unwrap();
    before.start().await.unwrap();
    assert_eq!(before.state().await.unwrap(), MachineState::Running);
    let late = Vm::create("late", config(&absolute)).await.unwrap();
    late.start().await.unwrap();
    assert_eq!(late.state().await.unwrap(), MachineState::Running);
}

#[tokio::test]
async fn a_deleted_current_folder_does_not_matter() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let doomed = folder.path().join("doomed");
    std::fs::create_dir(&doomed).unwrap();
    run(role("machines_of_a_deleted_folder", &doomed).current_dir(&doomed), LONG).await.unwrap();
}

/// Run in a separate process by the test below, with TMPDIR on a small file system.
#[tokio::test]
async fn machine_on_a_small_file_system() {
    let Some(folder) = folder_of_role() else { return };
    let fixture = pico_machine(|_| {}).await;
    let vm = &fixture.vm;
    vm.start().await.unwrap();
    let mut console = fixture.logged_in().await;
    let mut events = vm.events().await.unwrap();
    let filler = folder.join("filler");
    let full = std::io::copy(&mut std::io::repeat(1), &mut std::fs::File::create(&filler).unwrap());
    assert_eq!(full.unwrap_err().kind(), std::io::ErrorKind::StorageFull);

    console.send_line(&pico::command::write(pico::FIRST_SCRATCH_SECTOR, "late")).await.unwrap();
    let state = vm.wait_for(Phase::Paused, Some(Span::from(SOON))).await.unwrap();
    let MachineState::Paused { why: Some(why) } = &state else { panic!("{state:?}") };
    assert!(why.contains("the host's disk is full") && why.contains("`root`"), "{why}");
    let error = vm.wait_for(Phase::Running, Some(Span::milliseconds(1))).await.unwrap_err();
    assert!(error.to_string().contains("is still paused (the host's disk is full"), "{error}");
    assert!(error.hint().unwrap().contains("Make room"), "{error:?}");
    let json = serde_json::to_value(&state).unwrap();
    assert_eq!((&json["state"], json["why"].as_str()), (&"paused".into(), Some(why.as_str())));

    // In vain, and so paused again, for the same reason.
    vm.resume().await.unwrap();
    let mut stopped = 0;
    while stopped < 2 {
        use futures_util::StreamExt;
        let event = tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap().unwrap();
        stopped += usize::from(event.name == "STOP");
    }
    assert_eq!(vm.wait_for(Phase::Paused, Some(Span::from(SOON))).await.unwrap(), state);

    std::fs::remove_file(&filler).unwrap();
    vm.resume().await.unwrap();
    console.wait_for("wrote sector 32", SOON).await.unwrap();
    assert_eq!(vm.state().await.unwrap(), MachineState::Running);
    vm.pause().await.unwrap();
    assert_eq!(vm.state().await.unwrap(), MachineState::PAUSED, "the reason ended with its cause");
    vm.resume().await.unwrap();
    ask(&mut console, &pico::command::read(pico::FIRST_SCRATCH_SECTOR), "late").await;

    // Without any room it is not started, and its disk is not copied.
    vm.cut().await.unwrap();
    let full = std::io::copy(&mut std::io::repeat(1), &mut std::fs::File::create(&filler).unwrap());
    assert_eq!(full.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    let error = vm.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
    assert!(error.report().contains("no room for what the guest writes"), "{error:?}");
    let device = jumpstarter_driver_core::Device::of_driver(Qemu::new(vm.clone()));
    let flasher = device.get::<dyn Flasher>("flasher").unwrap();
    let sink = ImageSink::writer(tokio::io::sink());
    let error = flasher.dump(sink, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
    assert!(error.report().contains("a copy of it may take 0"), "{error:?}");
    std::fs::remove_file(&filler).unwrap();
    vm.start().await.unwrap();
    println!("done");
}

#[tokio::test]
async fn a_full_disk_of_the_host_is_the_reason_of_the_pause() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let unshare = |script: &str| {
        Command::new("unshare").args(["--mount", "--map-root-user", "sh", "-c", script])
    };
    let probe = format!("mount -t tmpfs -o size=4m tmpfs {}", folder.path().display());
    if let Err(error) = run(unshare(&probe), LONG).await {
        return skip(&format!("no small file system can be mounted: {error}"));
    }
    let script = format!("{probe} && exec \"$@\"");
    let program = std::env::current_exe().unwrap();
    let command = unshare(&script)
        .arg("sh")
        .arg(program)
        .args(["--exact", "machine_on_a_small_file_system", "--nocapture"])
        .env(FOLDER, folder.path())
        .env("TMPDIR", folder.path());
    let output = run_unchecked(command, LONG).await.unwrap();
    assert!(output.stdout_text().contains("done"), "{}{}", output.stdout_text(), output.stderr);
}

#[tokio::test]
async fn a_forward_called_ssh_is_the_child_of_that_name() {
    if !can_run() {
        return;
    }
    let fixture = pico_machine(|config| {
        config.hostfwd.push("ssh", HostForward::tcp(22));
    })
    .await;
    let device = jumpstarter_driver_core::Device::of_driver(Qemu::new(fixture.vm.clone()));
    let paths: Vec<&str> = device.nodes().iter().map(|node| node.path()).collect();
    assert_eq!(paths, ["", "power", "flasher", "console", "vnc", "ssh"]);
    let address = device.get::<dyn Network>("ssh").unwrap().address().await.unwrap();
    assert!(address.starts_with("tcp://127.0.0.1:"), "{address}");
    assert_eq!(device.reaching_host().collect::<Vec<_>>(), [""]);
}

#[tokio::test]
async fn a_restricted_machine_reaches_nothing_and_starts_with_its_forwards() {
    if !can_run() {
        return;
    }
    let fixture = pico_machine(|config| {
        config.restrict = true;
        config.hostfwd.push("web", HostForward::tcp(80));
    })
    .await;
    let device = jumpstarter_driver_core::Device::of_driver(Qemu::new(fixture.vm.clone()));
    assert_eq!(device.reaching_host().count(), 0);
    fixture.vm.start().await.unwrap();
    // QEMU listens: nobody else can.
    let address = fixture.vm.forwards()[0].address;
    let taken = std::net::TcpListener::bind(address).unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    let other = pico_machine(|config| {
        let std::net::SocketAddr::V4(address) = address else { unreachable!() };
        config.hostfwd.push("web", HostForward::tcp(80).at(address));
    })
    .await;
    let error = other.vm.start().await.unwrap_err();
    let expected = format!("hostfwd `web`: another program listens on {address}");
    assert!(error.report().contains(&expected) && error.hint().is_some(), "{error:?}");
    assert_eq!(other.vm.state().await.unwrap(), MachineState::Off);
}

/// As a program that tidies the temporary folder does.
fn tidy(vm: &Vm) -> PathBuf {
    let folder = vm.vnc_path().parent().unwrap().to_owned();
    std::fs::remove_dir_all(&folder).unwrap();
    folder
}

#[tokio::test]
async fn a_machine_whose_folder_was_deleted_comes_back_at_the_next_power_on() {
    if !can_run() {
        return;
    }
    let fixture = pico_machine(|_| {}).await;
    let device = jumpstarter_driver_core::Device::of_driver(Qemu::new(fixture.vm.clone()));
    let (vm, flasher) = (&fixture.vm, device.get::<dyn Flasher>("flasher").unwrap());
    let vnc = device.get::<dyn Network>("vnc").unwrap();
    let write = async || {
        let mut console = fixture.logged_in().await;
        let written = format!("wrote sector {}", pico::FIRST_SCRATCH_SECTOR);
        ask(&mut console, &pico::command::write(pico::FIRST_SCRATCH_SECTOR, "mine"), &written)
            .await;
        console
    };
    // Of a configured image: nothing is lost but what the guest wrote.
    vm.start().await.unwrap();
    let mut console = write().await;
    let folder = tidy(vm);
    ask(&mut console, &pico::command::read(pico::FIRST_SCRATCH_SECTOR), "mine").await;
    let error = vnc.connect().await.unwrap_err();
    assert!(error.hint().unwrap().contains("off and on"), "{error:?}");
    vm.cut().await.unwrap();
    let error = flasher
        .dump(ImageSink::path(fixture.image.with_extension("dump")), None)
        .await
        .unwrap_err();
    assert!(
        error.report().contains("what the guest had written was deleted by somebody else"),
        "{error:?}"
    );
    assert!(error.hint().is_some());
    vm.start().await.unwrap();
    let mut console = fixture.logged_in().await;
    ask(&mut console, &pico::command::read(pico::FIRST_SCRATCH_SECTOR), pico::FIRST_SCRATCH_TEXT)
        .await;
    vnc.connect().await.unwrap();

    // Its overlay and its seed alone, while it is off.
    vm.cut().await.unwrap();
    std::fs::remove_file(folder.join("root-overlay.qcow2")).unwrap();
    std::fs::remove_file(folder.join("seed.img")).unwrap();
    vm.start().await.unwrap();
    fixture.logged_in().await;

    // Of a flashed image: it is not replaced by another one, in silence.
    vm.cut().await.unwrap();
    flasher.flash(ImageSource::path(&fixture.image), None).await.unwrap();
    vm.start().await.unwrap();
    write().await;
    vm.cut().await.unwrap();
    tidy(vm);
    let error = vm.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    let said = error.report();
    assert!(
        said.contains("the image that was flashed to `root` was deleted by somebody else"),
        "{said}"
    );
    assert_eq!(error.hint(), Some("flash it again"));
    assert_eq!(vm.state().await.unwrap(), MachineState::Off);
    tidy(vm);
    flasher.flash(ImageSource::path(&fixture.image), None).await.unwrap();
    vm.start().await.unwrap();
    fixture.logged_in().await;
    vm.destroy().await.unwrap();
    assert!(!folder.exists());
}
