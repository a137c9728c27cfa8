//! What needs another system, or another kernel, than the host's: `cargo xtask in-guest` runs it.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use jumpstarter_config::ExporterConfig;
use jumpstarter_console::{Console, ConsoleShell, Credentials, SerialExt};
use jumpstarter_driver_core::Framing;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_qemu::Machine;
use jumpstarter_exporter::{Access, Address, Listener, Session, SessionOptions, serve};
use jumpstarter_supervise::{Command, run_unchecked};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// For whatever needs a guest under emulation on a busy host, where Debian takes minutes to boot.
const BOOT: Duration = Duration::from_secs(15 * 60);
/// How many characters pass the slow port in a second: those of 115200 baud.
const PER_SECOND: usize = 11_520;
/// The characters that pass at once.
const AT_ONCE: usize = 64;

/// A running machine whose disk is the image that the variable names; `config` is more of its
/// configuration.
async fn machine(variable: &str, config: &str) -> Device {
    let image = std::env::var_os(variable);
    let image =
        image.unwrap_or_else(|| panic!("{variable} is not set: run `cargo xtask in-guest`"));
    let file = format!(
        "
metadata: {{name: lab}}
export:
  vm: {{type: qemu, config: {{{config}, accel: tcg, mem: 512M}}}}
"
    );
    let device = ExporterConfig::parse(&file, "lab.yaml").unwrap().open().await.unwrap();
    let flasher = device.get::<dyn Flasher>("vm.flasher").unwrap();
    flasher.flash(ImageSource::path(Path::new(&image)), None).await.unwrap();
    device.get::<dyn Power>("vm.power").unwrap().on().await.unwrap();
    device
}

fn root() -> Option<Credentials> {
    Some(Credentials { user: "root".to_owned(), password: Some(Secret::new("root")) })
}

/// The same console behind a port that takes and gives its characters slowly.
async fn slow(device: &Device) -> Console {
    let fast = device.get::<dyn Serial>("vm.console").unwrap().connect().await.unwrap();
    let (ours, theirs) = Channel::pair(Framing::Bytes);
    let (mut from_device, mut to_device) = fast.split();
    let (mut from_us, mut to_us) = theirs.split();
    let pause = Duration::from_secs(1) * u32::try_from(AT_ONCE).unwrap()
        / u32::try_from(PER_SECOND).unwrap();
    tokio::spawn(async move {
        while let Ok(Some(frame)) = from_device.receive().await {
            for piece in frame.chunks(AT_ONCE) {
                tokio::time::sleep(pause).await;
                if to_us.send(piece.to_vec()).await.is_err() {
                    return;
                }
            }
        }
    });
    tokio::spawn(async move {
        while let Ok(Some(frame)) = from_us.receive().await {
            for piece in frame.chunks(AT_ONCE) {
                tokio::time::sleep(pause).await;
                if to_device.send(piece.to_vec()).await.is_err() {
                    return;
                }
            }
        }
    });
    Console::new(ours)
}

#[tokio::test(flavor = "multi_thread")]
async fn console_shell_on_debian_in_guest() {
    let device = machine("JUMPSTARTER_GUEST_DEBIAN", "arch: x86_64").await;
    let mut shell = ConsoleShell::open(slow(&device).await, root(), BOOT).await.unwrap();
    let done = shell.run(
        "grep ^ID= /etc/os-release; cat /proc/1/comm; exit_with() { return 3; }; exit_with",
        BOOT,
    );
    let done = done.await.unwrap();
    assert_eq!((done.text().as_str(), done.exit_code), ("ID=debian\nsystemd\n", 3));

    // The kernel speaks on the console from here on.
    const MESSAGE: &str = "a message of the kernel";
    let noise = format!(
        "dmesg -n 8; (while sleep 0.1; do echo '<1>{MESSAGE}' >/dev/kmsg; done) >/dev/null 2>&1 &"
    );
    assert_eq!(shell.run(&noise, BOOT).await.unwrap().exit_code, 0);
    let mut beside = device.get::<dyn Serial>("vm.console").unwrap().expect().await.unwrap();
    beside.wait_for(MESSAGE, BOOT).await.unwrap();
    drop(beside);
    let numbers: String = (0..1000).map(|number| format!("{number}\n")).collect();
    assert_eq!(shell.run("seq 0 999", BOOT).await.unwrap().text(), numbers);
    let bytes: Vec<u8> = (0..=255).cycle().take(3000).collect();
    shell.put(&bytes, "/var/tmp/it's a file", BOOT).await.unwrap();
    assert_eq!(shell.get("/var/tmp/it's a file", BOOT).await.unwrap(), bytes);
    let error = shell.get("/var/tmp/missing", BOOT).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(shell.run("cat /proc/version; false", BOOT).await.unwrap().exit_code, 1);

    // A new shell waits for silence, so that it stops no boot.
    assert_eq!(shell.run("dmesg -n 1; kill $!", BOOT).await.unwrap().exit_code, 0);

    // Over an exporter, by the program; the user's shell is left as it is.
    drop(shell);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let session = Session::new(device.clone(), SessionOptions::default()).unwrap();
    let listener = Listener::bind(&Address::Unix(socket.clone())).await.unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(serve(session, listener, Access::default(), stop.clone()));
    let j = Path::new(&std::env::var_os("JMP").unwrap()).with_file_name("j");
    let command = Command::new(j)
        .args([
            "vm.console",
            "run",
            "--",
            "wc -c <\"/var/tmp/it's a file\"; exit_with() { return 3; }; exit_with",
        ])
        .env("JUMPSTARTER_HOST", socket)
        .env("JMP_CONSOLE_PASSWORD", "root");
    let done = run_unchecked(command, BOOT).await.unwrap();
    assert_eq!(done.stdout, b"3000\n", "{}", done.stderr);
    assert_eq!(done.status.code(), Some(3), "{}", done.stderr);
    stop.cancel();

    // After a reboot it logs in again, and the file is there.
    let mut shell = ConsoleShell::open(slow(&device).await, root(), BOOT).await.unwrap();
    shell.run("sync; (sleep 1; systemctl reboot) >/dev/null 2>&1 &", BOOT).await.unwrap();
    let mut beside = device.get::<dyn Serial>("vm.console").unwrap().expect().await.unwrap();
    beside.wait_for("debian login: ", BOOT).await.unwrap();
    let error = shell.run("true", BOOT).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    shell.ready(BOOT).await.unwrap();
    let up = shell.run("id -un; wc -c <\"/var/tmp/it's a file\"; jobs", BOOT).await.unwrap();
    assert_eq!(up.text(), "root\n3000\n");
    device.close().await.unwrap();
}

/// Serves one file by HTTP.
async fn served(bytes: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = [0; 4096];
            let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len());
            if stream.read(&mut asked).await.is_ok_and(|length| length > 0)
                && stream.write_all(head.as_bytes()).await.is_ok()
            {
                stream.write_all(&bytes).await.ok();
            }
        }
    });
    port
}

/// Serves the static program of tests that the variable names.
async fn served_program(variable: &str) -> u16 {
    let program = std::env::var_os(variable);
    let program = program.expect("no static program of tests: run `cargo xtask in-guest`");
    served(std::fs::read(program).unwrap()).await
}

/// The tests of `vsock`, in a kernel that has the loopback.
#[tokio::test(flavor = "multi_thread")]
async fn vsock_tests_in_guest() {
    let port = served_program("JUMPSTARTER_STATIC_NETWORK_TESTS").await;
    let device = machine("JUMPSTARTER_GUEST_X86_64", "arch: x86_64").await;
    let console = device.get::<dyn Serial>("vm.console").unwrap().expect().await.unwrap();
    let mut shell = ConsoleShell::open(console, root(), BOOT).await.unwrap();
    let fetch = format!(
        "until grep -q ^vsock_loopback /proc/modules; do sleep 1; done; \
         until wget -q -O /tmp/tests http://10.0.2.2:{port}/tests; do sleep 1; done; \
         chmod +x /tmp/tests && /tmp/tests vsock_ --nocapture --test-threads=1"
    );
    let done = shell.run(&fetch, BOOT).await.unwrap();
    let text = done.text();
    assert_eq!(done.exit_code, 0, "{text}");
    assert!(text.contains("vsock_connects_over_the_loopback ... ok"), "{text}");
    assert!(!text.contains("skipped:"), "{text}");
    device.close().await.unwrap();
}

/// The tests of GPIO lines. Without ACPI the machine has a chip, which its power button is
/// connected to.
#[tokio::test(flavor = "multi_thread")]
async fn gpio_tests_in_guest() {
    let port = served_program("JUMPSTARTER_STATIC_GPIO_TESTS").await;
    let config = "arch: aarch64, extra_args: [-machine, acpi=off]";
    let device = machine("JUMPSTARTER_GUEST_AARCH64", config).await;
    let console = device.get::<dyn Serial>("vm.console").unwrap().expect().await.unwrap();
    let mut shell = ConsoleShell::open(console, root(), BOOT).await.unwrap();
    let tests = format!(
        "until wget -q -O /tmp/tests http://10.0.2.2:{port}/tests; do sleep 1; done; \
         chmod +x /tmp/tests && /tmp/tests _in_guest --skip without_access --test-threads=1"
    );
    let button = device.get::<dyn Machine>("vm").unwrap();
    let pressing = async {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        loop {
            second.tick().await;
            button.power_button().await.unwrap();
        }
    };
    let done = tokio::select! {
        done = shell.run(&tests, 4 * BOOT) => done.unwrap(),
        () = pressing => unreachable!(),
    };
    let text = done.text();
    assert_eq!(done.exit_code, 0, "{text}");
    assert!(text.contains("edges_of_the_button_in_guest ... ok"), "{text}");
    assert!(!text.contains("skipped:"), "{text}");

    let as_user = "\
        echo gpio:x:997: >>/etc/group; echo lab:x:1000:1000::/tmp:/bin/sh >>/etc/passwd; \
        chgrp gpio /dev/gpiochip0 && chmod 660 /dev/gpiochip0 && \
        su lab -c '/tmp/tests without_access'";
    let done = shell.run(as_user, BOOT).await.unwrap();
    let text = done.text();
    assert_eq!(done.exit_code, 0, "{text}");
    assert!(text.contains("a_user_without_access_in_guest ... ok"), "{text}");
    device.close().await.unwrap();
}
