//! Real U-Boot, as the firmware of machines of ours: Debian's u-boot-qemu.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use jumpstarter_config::ExporterConfig;
use jumpstarter_console::{Script, SerialExt};
use jumpstarter_driver_core::prelude::OpenContext;
use jumpstarter_driver_core::storage::write_file;
use jumpstarter_driver_core::{Device, ErrorKind, ImageSource, Power, Registry, Serial, Storage};
use jumpstarter_driver_qemu as _;
use jumpstarter_driver_testkit::guest::{Arch, qemu_available};
use jumpstarter_driver_testkit::skip;
use jumpstarter_driver_tftp as _;
use jumpstarter_driver_uboot::UbootConsole;
use serde_json::json;

const BOOT: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(60);

/// A machine with U-Boot, and the driver that names its children; `None` after a skip.
async fn board(arch: Arch, firmware: &str) -> Option<Device> {
    let firmware = Path::new("/usr/lib/u-boot").join(firmware);
    if !firmware.exists() {
        skip("there is no U-Boot for QEMU: apt-get install u-boot-qemu");
        return None;
    }
    if !qemu_available(arch) {
        return None;
    }
    let name = if arch == Arch::Aarch64 { "aarch64" } else { "x86_64" };
    let file = format!(
        "
metadata: {{name: lab}}
export:
  vm: {{type: qemu, config: {{arch: {name}, accel: tcg, mem: 256M, smp: 1, default_partitions: {{bios: {}}}}}}}
  uboot:
    type: jumpstarter_driver_uboot.driver.UbootConsole
    children: {{power: {{ref: vm.power}}, serial: {{ref: vm.console}}}}
",
        firmware.display()
    );
    let config = ExporterConfig::parse(&file, "lab.yaml").unwrap();
    Some(config.open().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn u_boot_on_aarch64() {
    let Some(device) = board(Arch::Aarch64, "qemu_arm64/u-boot.bin").await else { return };
    // The machine is off.
    let error = UbootConsole::attach(&device, "uboot").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:#}");

    let mut uboot = UbootConsole::reboot(&device, "uboot", BOOT).await.unwrap();
    let version = uboot.run_checked("version", SOON).await.unwrap();
    assert!(version.starts_with("U-Boot 20") && version.contains("gcc"), "{version}");
    let address = uboot.set_up_dhcp(SOON).await.unwrap();
    assert_eq!(address.ip_address.to_string(), "10.0.2.15");
    assert_eq!((address.gateway.to_string(), address.prefix_length()), ("10.0.2.2".into(), 24));
    assert_eq!(uboot.env("autoload").await.unwrap(), None);
    a_file_arrives_over_tftp(&mut uboot).await;
    environment_and_exit_codes(&mut uboot).await;

    // Another client takes over, at the same prompt.
    drop(uboot);
    let mut uboot = UbootConsole::attach(&device, "uboot").await.unwrap();
    assert_eq!(uboot.env("foo").await.unwrap().as_deref(), Some("bar"));
    uboot.enter("reset").await.unwrap();
    let found = uboot.wait_for_pattern(r"U-Boot (\d+)\.\d+", BOOT).await.unwrap();
    assert!(found.group(1).unwrap().starts_with("20"));
    device.get::<dyn Power>("vm.power").unwrap().off().await.unwrap();
    device.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn u_boot_on_x86_64() {
    let Some(device) = board(Arch::X86_64, "qemu-x86_64/u-boot.rom").await else { return };
    let mut uboot = UbootConsole::reboot(&device, "uboot", BOOT).await.unwrap();
    environment_and_exit_codes(&mut uboot).await;
    // It has no driver for the machine's network card.
    let error = uboot.set_up_dhcp(SOON).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:#}");
    assert!(error.report().contains("No ethernet found"), "{}", error.report());
    device.close().await.unwrap();
}

/// A script over the console of a machine with U-Boot, without the driver.
#[tokio::test(flavor = "multi_thread")]
async fn a_script_stops_the_boot_and_reads_what_u_boot_says() {
    let Some(device) = board(Arch::Aarch64, "qemu_arm64/u-boot.bin").await else { return };
    device.get::<dyn Power>("vm.power").unwrap().on().await.unwrap();
    let mut console = device.get::<dyn Serial>("vm.console").unwrap().expect().await.unwrap();
    let script: Script = serde_json::from_value(serde_json::json!([
        {"expect": {"regex": r"U-Boot (?<version>\d+\.\d+)"}},
        {"expect": ["=> ", {"text": "login: ", "then": [{"fail": "the boot was not stopped"}]}],
         "press": "ctrl-c", "every": "100ms"},
        {"line": "printenv arch"},
        {"expect": {"regex": r"\narch=(?<arch>\w+)\r"}},
        {"expect": "=> "},
    ]))
    .unwrap();
    let done = script.deadline(BOOT).run(&mut console).await.unwrap();
    assert!(done.capture("version").unwrap().starts_with("20"), "{done:?}");
    assert_eq!(done.capture("arch"), Some("arm"));

    let late = Script::new().send_line("sleep 60").expect("=> ").within(Duration::from_secs(8));
    let report = late.run(&mut console).await.unwrap_err().report();
    assert!(report.contains("step 2 (expect `=> `): no `=> ` within 8s"), "{report}");
    assert!(report.contains("sleep 60"), "{report}");
    device.close().await.unwrap();
}

/// U-Boot of Debian fetches from port 69 only, and has no `wget`. QEMU answers that port of the
/// gateway itself, so our server has another address of the loopback, which QEMU lets the guest
/// reach.
async fn a_file_arrives_over_tftp(uboot: &mut UbootConsole) {
    let root = tempfile::tempdir().unwrap();
    let id = std::process::id();
    let host = format!("127.69.{}.{}", id >> 8 & 255, id & 255);
    let entry = Registry::linked().find("tftp").unwrap();
    let config = json!({ "root_dir": root.path(), "host": host, "port": 69 });
    let driver = (entry.open)(config, OpenContext::at("tftp")).await.unwrap();
    let server = Device::of_shared_driver(driver);
    match server.call("", "start", vec![]).await {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return skip("port 69 needs a privilege: run the test as root");
        }
        started => started.unwrap(),
    };
    let image: Vec<u8> =
        (0..1_000_003_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let storage = server.get::<dyn Storage>("storage").unwrap();
    write_file(&*storage, "boot/image", ImageSource::bytes(image.clone())).await.unwrap();

    uboot.set_env("serverip", Some(&host)).await.unwrap();
    let said = uboot.run_checked("tftpboot 0x42000000 boot/image", BOOT).await.unwrap();
    assert!(said.contains("Bytes transferred = 1000003 (f4243 hex)"), "{said}");
    let sum = uboot.run_checked("crc32 0x42000000 ${filesize}", SOON).await.unwrap();
    assert!(sum.trim().ends_with(&format!("==> {:08x}", crc32(&image))), "{sum}");
    let missing = uboot.run("tftpboot 0x42000000 boot/nothing", BOOT).await.unwrap();
    assert!(
        missing.exit_code != 0 && missing.text.contains("there is no such file"),
        "{missing:?}"
    );
    server.close().await.unwrap();
}

/// As of zlib and Ethernet.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

async fn environment_and_exit_codes(uboot: &mut UbootConsole) {
    for value in ["bar", "two words", "it's $foo; \"x\" \\ # &", r"C:\\a\", ""] {
        uboot.set_env("baz", Some(value)).await.unwrap();
        assert_eq!(uboot.env("baz").await.unwrap().as_deref(), Some(value));
    }
    uboot.set_env_all([("foo", Some("bar")), ("baz", None)]).await.unwrap();
    assert_eq!(uboot.env("foo").await.unwrap().as_deref(), Some("bar"));
    assert_eq!(uboot.env("baz").await.unwrap(), None);

    let done = uboot.run("echo one; echo two", SOON).await.unwrap();
    assert_eq!((done.text.as_str(), done.exit_code), ("one\ntwo\n", 0));
    let failed = uboot.run("echo it; false", SOON).await.unwrap();
    assert_eq!((failed.text.as_str(), failed.exit_code), ("it\n", 1));
    let unknown = uboot.run_checked("nosuchcommand", SOON).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::FailedPrecondition);
    assert!(unknown.report().contains("Unknown command"), "{}", unknown.report());
    // A command that does not end is interrupted, and the next one runs.
    let late = uboot.run("sleep 600", Duration::from_millis(500)).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::DeadlineExceeded, "{late:#}");
    assert_eq!(uboot.run("echo after", SOON).await.unwrap().text, "after\n");
    // A line that is too long for U-Boot is not entered.
    let long = format!("echo {}", "x".repeat(3000));
    let error = uboot.run(&long, SOON).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:#}");
    assert_eq!(uboot.run("echo after", SOON).await.unwrap().text, "after\n");
}
