//! The end of a virtual machine, which cannot be taken back, and the way to its ports.

use insta::assert_snapshot;
use jumpstarter_driver_testkit::guest::{Arch, qemu_available};

use crate::lab::{Bench, jmp, line, start};
use crate::terminal::{J, Terminal, code};

const FILE: &str = "
metadata: {name: lab}
export:
  qemu:
    type: qemu
    config: {arch: x86_64, mem: 64M, smp: 1, hostfwd: {login: {guestport: 22}, other: {guestport: 9}}}
";

/// A machine; none, after a skip, where there is no QEMU.
async fn machine() -> Option<Bench> {
    if !qemu_available(Arch::X86_64) {
        return None;
    }
    Some(Bench::of(FILE).await)
}

#[tokio::test]
async fn a_machine_is_destroyed_only_by_who_means_it() {
    let Some(bench) = machine().await else { return };
    assert_snapshot!(bench.j(&["qemu", "destroy"]).await, @r"
    --- stderr
    error: destroying `qemu` takes it from everybody until the exporter is started anew
    hint: add --yes if that is meant
    --- exit code 2
    ");
    // On a terminal it asks, and takes only a yes for one.
    for (answer, expected) in [("\r", Some(1)), ("no\r", Some(1)), ("y\r", Some(0))] {
        assert_eq!(bench.j(&["qemu", "state"]).await, "off\n");
        let mut terminal = Terminal::new();
        let words = [J, "qemu", "destroy"];
        let child =
            terminal.command(&words).env("JUMPSTARTER_HOST", &bench.host).spawn().await.unwrap();
        terminal.shows("Destroy `qemu`?").await;
        terminal.press(answer);
        assert_eq!(code(&child).await, expected, "{}", terminal.text());
    }
    let said = bench.j(&["qemu", "start"]).await;
    assert!(said.contains("destroyed"), "{said}");
    assert!(!bench.j(&["qemu", "destroy", "--yes"]).await.contains("exit code"));
}

#[tokio::test]
async fn a_forward_is_advised_by_the_port_of_the_guest() {
    let Some(bench) = machine().await else { return };
    let listening = async |path: &str| {
        let command =
            jmp(&["forward", path, "--output", "json"]).env("JUMPSTARTER_HOST", &bench.host);
        let (child, mut lines) = start(command).await;
        let first: serde_json::Value =
            serde_json::from_str(&line(&mut lines, &child).await).unwrap();
        child.signal(jumpstarter_supervise::Signal::INT);
        assert_eq!(code(&child).await, Some(0));
        first
    };
    let login = listening("qemu.login").await;
    let expected = format!("ssh -p {} jumpstarter@127.0.0.1", login["port"]);
    assert_eq!(login["connect_with"], expected.as_str(), "{login}");
    assert_eq!(listening("qemu.other").await["connect_with"], serde_json::Value::Null);
}
