//! The main job on real input: an exporter file, a Linux image, a machine that boots it.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use futures_util::StreamExt;
use jumpstarter_config::ExporterConfig;
use jumpstarter_console::{ConsoleShell, Credentials, SerialExt};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_network::{Conversation, PortForward};
use jumpstarter_driver_qemu::{Machine, MachineState, StopOutcome};
use jumpstarter_driver_testkit::guest::{Arch, qemu_available, tiny_linux};

/// For whatever needs a guest under emulation on a busy host.
const BOOT: Duration = Duration::from_secs(300);
const PROMPT: &str = "$ ";

fn exporter_file(arch: &str) -> String {
    format!(
        "apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {{namespace: default, name: tiny}}
export:
  qemu:
    type: jumpstarter_driver_qemu.driver.Qemu
    config:
      arch: {arch}
      accel: tcg
      hostname: bench-7
      username: alice
      password: 'open: sesame'
      hostfwd: {{web: {{guestport: 80}}}}
  web: {{ref: qemu.web}}
"
    )
}

async fn page(mut conversation: Conversation) -> Result<String> {
    conversation.send_all("GET / HTTP/1.0\r\n\r\n").await?;
    let answer = conversation.receive_to_end(Duration::from_secs(60)).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn whole_job(arch: &str, image: std::path::PathBuf) {
    let config = ExporterConfig::parse(&exporter_file(arch), "tiny.yaml").unwrap();
    let device = config.open().await.unwrap();
    let folder = tempfile::tempdir().unwrap();

    let flasher = device.get::<dyn Flasher>("qemu.flasher").unwrap();
    let (source, digest) = ImageSource::path(&image).report_sha256();
    flasher.flash(source, None).await.unwrap();
    assert_eq!(digest.sha256().unwrap().len(), 64);

    let power = device.get::<dyn Power>("qemu.power").unwrap();
    let machine = device.get::<dyn Machine>("qemu").unwrap();
    power.on().await.unwrap();
    let mut console = device.get::<dyn Serial>("qemu.console").unwrap().expect().await.unwrap();
    console.login("alice", Some(&Secret::new("open: sesame")), PROMPT, BOOT).await.unwrap();
    console.send_line("hostname; id -un").await.unwrap();
    console.wait_for("bench-7\r\nalice\r\n", BOOT).await.unwrap();

    // A shell over the same console, beside the first client.
    let second = device.get::<dyn Serial>("qemu.console").unwrap().expect().await.unwrap();
    let password = Some(Secret::new("open: sesame"));
    let alice = Credentials { user: "alice".to_owned(), password };
    let mut shell = ConsoleShell::open(second, Some(alice), BOOT).await.unwrap();
    let bytes: Vec<u8> = (0..=255).cycle().take(3000).collect();
    shell.put(&bytes, "/home/alice/file", BOOT).await.unwrap();
    assert_eq!(shell.get("/home/alice/file", BOOT).await.unwrap(), bytes);
    let done = shell.run("wc -c <file; hostname; false", BOOT).await.unwrap();
    assert_eq!((done.text().as_str(), done.exit_code), ("3000\nbench-7\n", 1));

    // The web server is up before the login, the guest's address perhaps not.
    let network = device.get::<dyn Network>("web").unwrap();
    assert!(network.address().await.unwrap().starts_with("tcp://127.0.0.1:"));
    let forward = PortForward::tcp(network.clone()).await.unwrap();
    let fetched = tokio::time::timeout(BOOT, async {
        loop {
            if let Ok(answer) = page(Conversation::connect(&*network).await.unwrap()).await
                && answer.contains("bench-7")
            {
                return answer;
            }
        }
    })
    .await
    .unwrap();
    assert!(fetched.contains(" 200 OK"), "{fetched}");
    let through = tokio::net::TcpStream::connect(forward.tcp_address().unwrap()).await.unwrap();
    assert!(page(Conversation::new(Channel::from_io(through))).await.unwrap().contains("bench-7"));

    machine.pause().await.unwrap();
    assert_eq!(machine.state().await.unwrap(), MachineState::PAUSED);
    machine.resume().await.unwrap();
    console.send_line("echo still-$((40 + 2))").await.unwrap();
    console.wait_for("still-42", BOOT).await.unwrap();
    let reading = power.read().await.unwrap().next().await.unwrap().unwrap();
    assert_eq!(reading.voltage, 1.0);

    // After a reboot the shell logs in again.
    machine.reset().await.unwrap();
    console.wait_for("login: ", BOOT).await.unwrap();
    assert_eq!(shell.run("true", BOOT).await.unwrap_err().kind(), ErrorKind::Unavailable);
    shell.ready(BOOT).await.unwrap();
    assert_eq!(shell.run("id -un", BOOT).await.unwrap().text(), "alice\n");

    assert_eq!(machine.stop().await.unwrap(), StopOutcome::Graceful);
    let dump = folder.path().join("dump.img");
    flasher.dump(ImageSink::path(&dump), None).await.unwrap();
    assert_eq!(std::fs::metadata(&dump).unwrap().len(), std::fs::metadata(&image).unwrap().len());
    forward.stop().await;
    device.close().await.unwrap();
}

#[tokio::test]
async fn x86_64_from_exporter_file_to_shutdown() {
    if let Some(image) = tiny_linux(Arch::X86_64)
        && qemu_available(Arch::X86_64)
    {
        whole_job("x86_64", image).await;
    }
}

#[tokio::test]
async fn aarch64_from_exporter_file_to_shutdown() {
    if let Some(image) = tiny_linux(Arch::Aarch64)
        && qemu_available(Arch::Aarch64)
    {
        whole_job("aarch64", image).await;
    }
}
