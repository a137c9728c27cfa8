//! One test, written once, in three settings: the device in this process, over our exporter, over
//! the one in Python.
//!
//! The test takes its device from the environment, as a user's does. Each setting runs this program
//! again, with the variables of that setting and only that test.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use jumpstarter_client::DeviceExt;
use jumpstarter_config::ExporterConfig;
use jumpstarter_console::SerialExt;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_network::{Conversation, PortForward};
use jumpstarter_driver_qemu as _;
use jumpstarter_driver_testkit::guest::{Arch, qemu_available, tiny_linux};
use jumpstarter_driver_testkit::reserve_port;
use jumpstarter_exporter::{Access, Address, Listener, Session, SessionOptions, serve};
use jumpstarter_supervise::{Command, Sink};
use jumpstarter_tests::python_exporter::{PythonExporter, emulating_qemu, python_environment};
use tokio_util::sync::CancellationToken;

/// For whatever needs a guest under emulation on a busy host.
const BOOT: Duration = Duration::from_secs(300);
/// For the whole test in its setting.
const LIMIT: Duration = Duration::from_secs(400);
const PROMPT: &str = "$ ";
const TEST: &str = "boot_log_in_and_fetch_a_page";
const IMAGE: &str = "JUMPSTARTER_TEST_IMAGE";
/// What `Device::from_env` looks at: a setting is what it sets, and nothing that is inherited.
const VARIABLES: [&str; 4] =
    ["JUMPSTARTER_HOST", "JMP_GRPC_INSECURE", "JMP_GRPC_PASSPHRASE", "JMP_EXPORTER_CONFIG"];

/// Does something only where one of the tests below runs it, in its setting.
#[tokio::test]
async fn boot_log_in_and_fetch_a_page() {
    let Some(image) = std::env::var_os(IMAGE).map(PathBuf::from) else { return };
    let device = Device::from_env().await.unwrap();
    let flasher = device.get::<dyn Flasher>("qemu.flasher").unwrap();
    flasher.flash(ImageSource::path(&image), None).await.unwrap();

    let power = device.get::<dyn Power>("qemu.power").unwrap();
    power.on().await.unwrap();
    let mut console =
        device.get::<dyn Serial>("qemu.console").unwrap().expect().await.unwrap().without_ansi();
    console.login("alice", Some(&Secret::new("sesame")), PROMPT, BOOT).await.unwrap();
    console.send_line("uname -sm; hostname; id -un; echo ov'er'").await.unwrap();
    let seen = console.wait_for("over\r\n", BOOT).await.unwrap();
    let seen = seen.before_text().lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(seen, @r"
    uname -sm; hostname; id -un; echo ov'er'
    Linux x86_64
    bench-7
    alice
    ");

    let forward = PortForward::tcp(device.get::<dyn Network>("qemu.web").unwrap()).await.unwrap();
    let page = tokio::time::timeout(BOOT, async {
        loop {
            let through =
                tokio::net::TcpStream::connect(forward.tcp_address().unwrap()).await.unwrap();
            if let Ok(page) = fetch(Conversation::new(Channel::from_io(through))).await
                && page.contains("bench-7")
            {
                return page;
            }
        }
    })
    .await
    .unwrap();
    assert!(page.contains(" 200 OK"), "{page}");

    power.off().await.unwrap();
    forward.stop().await;
    device.close().await.unwrap();
}

async fn fetch(mut conversation: Conversation) -> Result<String> {
    conversation.send_all("GET / HTTP/1.0\r\n\r\n").await?;
    let answer = conversation.receive_to_end(Duration::from_secs(60)).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A machine that both exporters know: only keys and drivers of the one in Python.
fn exporter_file(web: u16) -> String {
    format!(
        "apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {{namespace: default, name: anywhere}}
export:
  qemu:
    type: jumpstarter_driver_qemu.driver.Qemu
    config:
      arch: x86_64
      hostname: bench-7
      username: alice
      password: sesame
      hostfwd: {{web: {{protocol: tcp, hostaddr: 127.0.0.1, hostport: {web}, guestport: 80}}}}
"
    )
}

/// The image, and the exporter file in a folder; `None` if the host has no machine to run.
fn prepared() -> Option<(PathBuf, tempfile::TempDir)> {
    let image = tiny_linux(Arch::X86_64).filter(|_| qemu_available(Arch::X86_64))?;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("exporter.yaml"), exporter_file(reserve_port())).unwrap();
    Some((image, folder))
}

/// Runs the test in a separate process, with the variables of a setting.
async fn run_with(image: &Path, setting: &[(&str, &str)]) {
    let mut command = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(IMAGE, image)
        .env("INSTA_UPDATE", "no")
        .stdout(Sink::Tail(64 * 1024))
        .stderr(Sink::Tail(64 * 1024));
    for name in VARIABLES {
        command = command.env_remove(name);
    }
    for (name, value) in setting {
        command = command.env(name, value);
    }
    let child = command.spawn().await.unwrap();
    let status = tokio::time::timeout(LIMIT, child.wait()).await.unwrap();
    let said = child.stdout_tail() + &child.stderr_tail();
    assert!(status.code() == Some(0) && said.contains("1 passed"), "{status}\n{said}");
}

#[tokio::test]
async fn in_this_process() {
    let Some((image, folder)) = prepared() else { return };
    let file = folder.path().join("exporter.yaml");
    run_with(&image, &[("JMP_EXPORTER_CONFIG", file.to_str().unwrap())]).await;
}

#[tokio::test]
async fn over_our_exporter() {
    let Some((image, folder)) = prepared() else { return };
    let config = ExporterConfig::load(folder.path().join("exporter.yaml")).unwrap();
    let session = Session::new(config.open().await.unwrap(), SessionOptions::default()).unwrap();
    let socket = folder.path().join("socket");
    let listener = Listener::bind(&Address::Unix(socket.clone())).await.unwrap();
    let stop = CancellationToken::new();
    let served = tokio::spawn(serve(session.clone(), listener, Access::default(), stop.clone()));
    run_with(&image, &[("JUMPSTARTER_HOST", socket.to_str().unwrap())]).await;
    stop.cancel();
    served.await.unwrap().unwrap();
    session.device().close().await.unwrap();
}

#[tokio::test]
async fn python_exporter() {
    let Some(environment) = python_environment() else { return };
    let Some((image, folder)) = prepared() else { return };
    let config = std::fs::read_to_string(folder.path().join("exporter.yaml")).unwrap();
    let programs = emulating_qemu(folder.path()).unwrap();
    let exporter =
        PythonExporter::start_with_programs(&environment, &config, &programs).await.unwrap();
    let host = exporter.host_port();
    run_with(&image, &[("JUMPSTARTER_HOST", &host), ("JMP_GRPC_INSECURE", "1")]).await;
    exporter.stop().await.unwrap();
}
