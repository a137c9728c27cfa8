//! What becomes of a machine that runs when its exporter is ended.

use std::path::Path;

use jumpstarter_client::{ConnectOptions, connect};
use jumpstarter_console::Console;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_testkit::guest::{Arch, qemu_available};
use jumpstarter_driver_testkit::pico;
use jumpstarter_supervise::{Child, Signal};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;

use crate::lab::{jmp, line, start};
use crate::terminal::{DEADLINE, Lab, code};

/// An exporter whose machine is logged in.
struct Running {
    exporter: Child,
    lab: Lab,
    console: Console,
    /// QEMU's events; the lines end when QEMU ends.
    events: Lines<BufReader<UnixStream>>,
}

impl Running {
    /// Starts the machine; none, after a skip, where there is no QEMU.
    async fn start(off: &str) -> Option<Self> {
        if !qemu_available(Arch::X86_64) {
            return None;
        }
        let lab = Lab::new("");
        let (image, qmp, socket) = (lab.path("pico.img"), lab.path("qmp"), lab.path("s"));
        pico::write_to(&image).unwrap();
        std::fs::create_dir(lab.path("tmp")).unwrap();
        let config = serde_json::json!({
            "arch": "x86_64", "accel": "tcg", "mem": "64M", "smp": 1, "off": off,
            "default_partitions": {"root": image}, "timeouts": {"shutdown": "1h"},
            "extra_args": ["-qmp", format!("unix:{},server=on,wait=off", qmp.display())],
        });
        let file = serde_json::json!({"export": {"qemu": {"type": "qemu", "config": config}}});
        std::fs::write(lab.file(), file.to_string()).unwrap();
        let words =
            ["run", "--exporter-config", &lab.file(), "--listen-unix", socket.to_str().unwrap()];
        let command = jmp(&words).env("TMPDIR", lab.path("tmp")).env_remove("XDG_RUNTIME_DIR");
        let (exporter, mut lines) = start(command).await;
        assert!(line(&mut lines, &exporter).await.starts_with("ready "));

        let options = ConnectOptions::new(socket.to_str().unwrap().parse().unwrap());
        let client = connect(&options).await.unwrap();
        client.device().get::<dyn Power>("qemu.power").unwrap().on().await.unwrap();
        let serial = client.device().get::<dyn Serial>("qemu.console").unwrap();
        let mut console = Console::new(serial.connect().await.unwrap());
        for (asked, answer) in
            [(pico::LOGIN_PROMPT, "root"), (pico::PASSWORD_PROMPT, "x"), (pico::PROMPT, "")]
        {
            console.wait_for(asked, DEADLINE).await.unwrap();
            console.send_line(answer).await.unwrap();
        }
        console.wait_for(pico::PROMPT, DEADLINE).await.unwrap();
        Some(Self { events: events(&qmp).await, exporter, lab, console })
    }

    /// The names of QEMU's further events, up to that one or to QEMU's end.
    async fn events_until(&mut self, last: &str) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        while names.last().is_none_or(|name| name != last) {
            let next = tokio::time::timeout(DEADLINE, self.events.next_line()).await;
            let Ok(Some(text)) = next.expect("an event in time") else { break };
            let message: serde_json::Value = serde_json::from_str(&text).unwrap();
            names.extend(message["event"].as_str().map(str::to_owned));
        }
        names
    }

    /// How the exporter ended, and what it said; nothing stayed.
    async fn end(mut self) -> (Option<i32>, String) {
        let code = code(&self.exporter).await;
        self.events_until("the end").await;
        let left: Vec<_> = std::fs::read_dir(self.lab.path("tmp")).unwrap().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
        (code, self.exporter.stderr_tail())
    }
}

/// Opens a separate QMP connection.
async fn events(socket: &Path) -> Lines<BufReader<UnixStream>> {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(b"{\"execute\":\"qmp_capabilities\"}\n").await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    while !lines.next_line().await.unwrap().unwrap().contains("\"return\"") {}
    lines
}

#[tokio::test]
async fn a_guest_shuts_down_before_its_exporter_ends() {
    let Some(mut running) = Running::start("graceful").await else { return };
    running.exporter.signal(Signal::TERM);
    let events = running.events_until("SHUTDOWN").await;
    assert!(events.contains(&"POWERDOWN".to_owned()), "{events:?}");
    let (code, log) = running.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("closing a machine: the guest shut down"), "{log}");
}

#[tokio::test]
async fn a_guest_is_cut_by_default() {
    let Some(mut running) = Running::start("cut").await else { return };
    running.exporter.signal(Signal::TERM);
    let events = running.events_until("SHUTDOWN").await;
    assert!(!events.contains(&"POWERDOWN".to_owned()), "{events:?}");
    assert_eq!(running.end().await.0, Some(0));
}

#[tokio::test]
async fn a_second_signal_hurries_a_guest_that_does_not_shut_down() {
    let Some(mut running) = Running::start("graceful").await else { return };
    running.console.send_line(pico::command::IGNORE_POWER_BUTTON).await.unwrap();
    running.console.wait_for(pico::IGNORE_LINE, DEADLINE).await.unwrap();
    running.exporter.signal(Signal::TERM);
    let events = running.events_until("POWERDOWN").await;
    assert_eq!(events.last().map(String::as_str), Some("POWERDOWN"), "{events:?}");
    assert!(running.exporter.is_running(), "the guest has an hour");
    running.exporter.signal(Signal::TERM);
    let (code, log) = running.end().await;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("hurrying: the device has 3 s to close"), "{log}");
    assert!(log.contains("the device did not close within 3 s"), "{log}");
}
