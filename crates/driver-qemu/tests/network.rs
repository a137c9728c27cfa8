//! What a guest reaches, on real QEMU with the tiny Linux guest.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::net::Ipv4Addr;
use std::time::Duration;

use common::{can_run, config};
use jumpstarter_console::Console;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_network::Conversation;
use jumpstarter_driver_qemu::{HostForward, Machine, Qemu, Vm};
use jumpstarter_driver_testkit::guest::{Arch, tiny_linux};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

/// For whatever needs a guest under emulation on a busy host.
const BOOT: Duration = Duration::from_secs(300);
const PROMPT: &str = "# ";

/// A listener that is meant for this host alone, such as an exporter's: it greets each client. Its
/// port.
async fn listener_for_this_host() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"for-this-host\n").await.ok();
        }
    });
    port
}

/// The guest, once its web page can be had through `hostfwd`, and a console of it.
async fn guest(restrict: bool) -> Option<(Vm, Console)> {
    let image = tiny_linux(Arch::X86_64)?;
    let mut config = config(image);
    (config.restrict, config.mem) = (restrict, ByteSize::mebibytes(256));
    config.hostfwd.push("web", HostForward::tcp(80));
    config.hostfwd.push("echo", HostForward::udp(7));
    let vm = Vm::create("net", config).await.unwrap();
    let device = jumpstarter_driver_core::Device::of_driver(Qemu::new(vm.clone()));
    vm.start().await.unwrap();
    let mut console = Console::new(vm.open_console().unwrap());
    console.login("root", Some(&Secret::new("root")), PROMPT, BOOT).await.unwrap();
    let network = device.get::<dyn Network>("web").unwrap();
    let page = async {
        loop {
            let mut conversation = Conversation::connect(&*network).await.unwrap();
            conversation.send_all("GET / HTTP/1.0\r\n\r\n").await.ok();
            if let Ok(page) = conversation.receive_to_end(BOOT).await
                && String::from_utf8_lossy(&page).contains(" 200 OK")
            {
                return;
            }
        }
    };
    tokio::time::timeout(BOOT, page).await.expect("the guest's web page");
    Some((vm, console))
}

/// What the guest gets from a port of the address at which QEMU shows it this host; it waits
/// `seconds` for it.
async fn ask_host(console: &mut Console, port: u16, seconds: u32) -> String {
    // The marks are put together by the guest's shell: what is typed is echoed.
    let get = format!("nc -w {seconds} 10.0.2.2 {port} </dev/null");
    let ask = format!("echo be\"\"gin; {get}; echo e\"\"nd");
    console.send_line(&ask).await.unwrap();
    console.wait_for("begin", BOOT).await.unwrap();
    let said = console.wait_for("end", BOOT).await.unwrap();
    String::from_utf8_lossy(&said.before).into_owned()
}

#[tokio::test]
async fn a_guest_reaches_this_hosts_loopback_unless_it_is_restricted() {
    if !can_run() {
        return;
    }
    let port = listener_for_this_host().await;
    for restrict in [false, true] {
        let Some((vm, mut console)) = guest(restrict).await else { return };
        let said = ask_host(&mut console, port, if restrict { 5 } else { 60 }).await;
        assert_eq!(said.contains("for-this-host"), !restrict, "restrict: {restrict}: {said}");
        if restrict {
            // Ports in `hostfwd` stay reachable.
            reach_over_udp(&vm, &mut console).await;
        }
        vm.destroy().await.unwrap();
    }
}

/// Sends datagrams to the guest's UDP port in `hostfwd` until the guest's kernel counts one more
/// for a closed port: its busybox has no program that listens for datagrams.
async fn reach_over_udp(vm: &Vm, console: &mut Console) {
    let device = jumpstarter_driver_core::Device::of_driver(Qemu::new(vm.clone()));
    let mut channel = device.get::<dyn Network>("echo").unwrap().connect().await.unwrap();
    let before = refused_datagrams(console).await;
    let arrived = async {
        while refused_datagrams(console).await == before {
            channel.send("datagram").await.unwrap();
        }
    };
    tokio::time::timeout(BOOT, arrived).await.expect("a datagram in the guest");
}

/// How many datagrams came to the guest for a port without a listener.
async fn refused_datagrams(console: &mut Console) -> u64 {
    let ask = "echo be\"\"gin; grep Udp: /proc/net/snmp; echo e\"\"nd";
    console.send_line(ask).await.unwrap();
    console.wait_for("begin", BOOT).await.unwrap();
    let said = console.wait_for("end", BOOT).await.unwrap();
    let said = String::from_utf8_lossy(&said.before).into_owned();
    let mut lines = said.lines().filter(|line| line.starts_with("Udp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let place = names.split_whitespace().position(|name| name == "NoPorts").unwrap();
    values.split_whitespace().nth(place).unwrap().parse().unwrap()
}
