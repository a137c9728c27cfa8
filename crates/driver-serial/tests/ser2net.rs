//! RFC 2217 against ser2net, a terminal server that labs use, which serves a pseudo-terminal.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{SerialFlowControl, SerialParity, SerialSettings};
use jumpstarter_driver_serial::{SerialConfig, SerialPort};
use jumpstarter_driver_testkit::serial::{LONG, Pty, receive, timely};
use jumpstarter_driver_testkit::{eventually_some, reserve_port, skip};
use jumpstarter_supervise::{Child, Command};
use rustix::termios::{self, ControlModes};

const PROGRAM: &str = "/usr/sbin/ser2net";

struct Server {
    pty: Pty,
    port: SerialPort,
    _child: Child,
    _folder: tempfile::TempDir,
}

impl Server {
    /// ser2net before a pseudo-terminal, and a port that leads there.
    async fn start() -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            skip("ser2net is not installed: apt-get install ser2net");
            return None;
        }
        let pty = Pty::open();
        let folder = tempfile::tempdir().unwrap();
        let free = reserve_port();
        let file = folder.path().join("ser2net.yaml");
        let text = format!(
            "%YAML 1.1\n---\nconnection: &it\n  accepter: telnet(rfc2217),tcp,127.0.0.1,{free}\n  \
             connector: serialdev,{},9600n81,local\n",
            pty.path.display()
        );
        std::fs::write(&file, text).unwrap();
        let child = Command::new(PROGRAM).args(["-n", "-u", "-c"]).arg(&file).spawn().await;
        let mut config = SerialConfig::new(format!("rfc2217://127.0.0.1:{free}").parse().unwrap());
        config.reconnect = false;
        config.baudrate = 38_400;
        let port = SerialPort::new(config);
        Some(Self { pty, port, _child: child.unwrap(), _folder: folder })
    }

    async fn connect(&self) -> Channel {
        eventually_some("ser2net listens", async || self.port.connect().await.ok()).await
    }
}

#[tokio::test]
async fn settings_and_every_byte_pass_ser2net() {
    let Some(server) = Server::start().await else { return };
    let mut channel = server.connect().await;
    let line = || termios::tcgetattr(&server.pty.master).unwrap();
    assert_eq!(line().output_speed(), 38_400);

    let all: Vec<u8> = (0..=255).chain([255, 255, 13, 0, 10]).collect();
    channel.send(all.clone()).await.unwrap();
    assert_eq!(server.pty.read(all.len()).await, all);
    server.pty.write(&all).await;
    assert_eq!(receive(&mut channel, all.len()).await, all);

    let wanted = SerialSettings {
        baudrate: Some(115_200),
        parity: Some(SerialParity::None),
        stop_bits: Some(2),
        flow_control: Some(SerialFlowControl::Software),
        ..SerialSettings::default()
    };
    let now = timely(server.port.configure(wanted)).await.unwrap();
    assert_eq!((now.baudrate, now.stop_bits), (Some(115_200), Some(2)));
    assert_eq!(line().output_speed(), 115_200);
    assert!(line().control_modes.contains(ControlModes::CSTOPB));
    timely(server.port.send_break(Some(Span::milliseconds(20)))).await.unwrap();
}

#[tokio::test]
async fn another_client_of_ser2net_is_named_and_its_end_is_seen() {
    let Some(server) = Server::start().await else { return };
    let mut channel = server.connect().await;
    let url = server.port.address().to_string();
    let other = SerialPort::new(SerialConfig::new(url.parse().unwrap()));
    let error = tokio::time::timeout(LONG, other.connect()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
    assert!(error.report().contains(&url), "{}", error.report());
    drop(server.pty);
    while let Ok(Some(_)) = timely(channel.receive()).await {}
}
