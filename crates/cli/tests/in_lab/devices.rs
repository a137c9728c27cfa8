//! Leases of commands beside `jmp shell`, and of tests in Rust.

use std::time::Duration;

use jumpstarter_client::lab::Lease;
use jumpstarter_client::{DeviceExt, blocking};
use jumpstarter_driver_core::Device;
use jumpstarter_supervise::{Command, Signal, Sink, run_unchecked};

use crate::bench::Lab;
use crate::lab::{clean, eventually, line, start};
use crate::terminal::{DEADLINE, J, JMP, Terminal, code};

#[tokio::test(flavor = "multi_thread")]
async fn j_leases_a_device_for_one_command() {
    let lab = Lab::start("").await;
    let j = |words: &[&str]| {
        let file = lab.folder.path().join("client.yaml");
        clean(Command::new(J)).args(["--client-config", file.to_str().unwrap()]).args(words)
    };
    let ran = async |command: Command| {
        let output = run_unchecked(command, DEADLINE).await.unwrap();
        (output.status.code(), output.stdout_text(), output.stderr)
    };
    let (code, out, err) = ran(j(&["-l", "board=mock", "power", "on"])).await;
    assert_eq!(code, Some(0), "{out}{err}");
    lab.has_only(&[]).await;
    let (code, out, err) = ran(j(&["-ne1", "tree", "--output", "json"])).await;
    assert!(code == Some(0) && out.contains("power"), "{out}{err}");
    // By the environment.
    let (code, _, err) = ran(j(&["power", "on"]).env("JMP_SELECTOR", "board=mock")).await;
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(lab.controller.leases(false).len(), 3);
    // An existing lease is kept.
    let name = lab.take().await;
    for command in
        [j(&["--lease", &name, "power", "on"]), j(&["power", "on"]).env("JMP_LEASE", &name)]
    {
        let (code, _, err) = ran(command).await;
        assert_eq!(code, Some(0), "{err}");
    }
    lab.has_only(&[name.as_str()]).await;
    // No lease for a page of help, and no new one without being asked: the active one is used.
    let (code, out, err) = ran(j(&["-l", "board=mock", "--help"])).await;
    assert!(code == Some(0) && out.contains("Device of a lab"), "{out}{err}");
    let (code, _, err) = ran(j(&["power", "on"])).await;
    assert!(code == Some(0) && err.contains("using the lease"), "{err}");
    assert_eq!(lab.controller.leases(false).len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forward_holds_its_lease() {
    let lab = Lab::start("").await;
    let words = ["forward", "echo", "--output", "json", "-l", "board=mock"];
    let (forward, mut lines) = start(lab.command(&words, 1)).await;
    let listening: serde_json::Value =
        serde_json::from_str(&line(&mut lines, &forward).await).unwrap();
    let port = listening["port"].as_u64().unwrap().try_into().unwrap();
    assert_eq!(lab.controller.leases(true).len(), 1);
    let mut through = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut answer = [0; 5];
    tokio::io::AsyncWriteExt::write_all(&mut through, b"hello").await.unwrap();
    tokio::io::AsyncReadExt::read_exact(&mut through, &mut answer).await.unwrap();
    assert_eq!(&answer, b"hello");
    forward.signal(Signal::INT);
    assert_eq!(code(&forward).await, Some(0), "{}", forward.stderr_tail());
    lab.has_only(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_while_a_forward_waits_for_a_device_gives_the_lease_back() {
    let lab = Lab::start("").await;
    let name = lab.take().await;
    let waiting = lab.command(&["forward", "echo", "-l", "board=mock"], 1);
    let waiting = waiting.stderr(Sink::Tail(1 << 16)).spawn().await.unwrap();
    let held = "waiting for a device: the exporter e1 is leased by c1 until 2";
    eventually(held, async || waiting.stderr_tail().contains(held).then_some(())).await;
    waiting.signal(Signal::INT);
    assert_eq!(code(&waiting).await, Some(1));
    lab.has_only(&[name.as_str()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wait_is_a_line_that_is_redrawn_on_a_terminal() {
    let lab = Lab::start("").await;
    let name = lab.take().await;
    let mut terminal = Terminal::new();
    let file = lab.folder.path().join("client.yaml");
    let words = [JMP, "forward", "echo", "-n", "e1", "--client-config", file.to_str().unwrap()];
    let waiting = clean(terminal.command(&words)).env("COLUMNS", "200").spawn().await.unwrap();
    terminal.shows("waiting for a device (").await;
    terminal.shows("the exporter e1 is leased by c1").await;
    let (code_of_delete, _, err) = lab.run(&["delete", "leases", &name], 3).await;
    assert_eq!(code_of_delete, Some(0), "{err}");
    terminal.shows("`echo` is at ").await;
    terminal.press("\u{3}");
    assert_eq!(code(&waiting).await, Some(0), "{}", terminal.text());
    lab.has_only(&[]).await;
}

const ASKED: &str = "JUMPSTARTER_TEST_IN_LAB";
const DONE: &str = "the device was used";

/// Uses the device that the environment names; in a separate process, on request.
#[test]
fn a_device_of_the_environment() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let switch_on = async |device: &Device| device.call("power", "on", vec![]).await.unwrap();
    match std::env::var(ASKED).as_deref() {
        Ok("closes") => runtime().block_on(async {
            let device = <Device as DeviceExt>::from_env().await.unwrap();
            switch_on(&device).await;
            device.close().await.unwrap();
        }),
        Ok("drops") => runtime().block_on(async {
            let device = <Device as DeviceExt>::from_env().await.unwrap();
            // A handle holds the lease, too.
            let power = device.get::<dyn jumpstarter_driver_core::Power>("power").unwrap();
            drop(device);
            power.on().await.unwrap();
        }),
        Ok("blocks") => {
            let device = blocking::Device::from_env().unwrap();
            device.call("power", "on", vec![]).unwrap();
        }
        Ok("requests") => runtime().block_on(async {
            let device =
                Lease::request("board=mock").duration(Duration::from_secs(60)).await.unwrap();
            switch_on(&device).await;
            println!("\n{DONE}");
            panic!("a test that fails");
        }),
        Ok("nothing") => runtime().block_on(async {
            let error = <Device as DeviceExt>::from_env().await.unwrap_err();
            println!("{}", error.report());
        }),
        _ => return,
    }
    println!("\n{DONE}");
}

impl Lab {
    /// Runs the test above with these variables, and returns what it prints.
    async fn test(&self, how: &str, variables: &[(&str, &str)]) -> String {
        let token = self.controller.token(jumpstarter_test_controller::Kind::Client, "c1");
        let command = clean(Command::new(std::env::current_exe().unwrap()))
            .args(["--exact", "devices::a_device_of_the_environment", "--nocapture"])
            .env(ASKED, how)
            .env("JMP_NAMESPACE", "lab")
            .env("JMP_NAME", "c1")
            .env("JMP_ENDPOINT", self.controller.endpoint())
            .env("JMP_TOKEN", token)
            .env("JMP_TLS", r#"{"insecure": true}"#);
        let command =
            variables.iter().fold(command, |command, (name, value)| command.env(name, value));
        let output = run_unchecked(command, DEADLINE).await.unwrap();
        let text = output.stdout_text() + &output.stderr;
        assert!(text.contains(DONE), "{text}");
        text
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_in_rust_has_a_device_of_the_lab_and_gives_it_back() {
    let lab = Lab::start("").await;
    let selector = [("JMP_SELECTOR", "board=mock")];
    for (count, how) in (1..).zip(["closes", "drops", "blocks", "requests"]) {
        lab.test(how, &selector).await;
        assert_eq!(lab.controller.leases(false).len(), count, "{how}");
        lab.has_only(&[]).await;
    }
    let name = lab.take().await;
    lab.test("closes", &[("JMP_LEASE", &name), selector[0]]).await;
    lab.has_only(&[name.as_str()]).await;
    let text = lab.test("nothing", &[]).await;
    assert!(text.contains("none of JUMPSTARTER_HOST, JMP_LEASE, JMP_SELECTOR and"), "{text}");
    assert_eq!(lab.controller.leases(false).len(), 5);
}
