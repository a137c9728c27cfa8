//! Pictures of screens: QEMU's VNC server, as the machine's child, named by a driver, and with a
//! password.

use jumpstarter_driver_testkit::guest::{Arch, qemu_available};
use jumpstarter_supervise::{Command, Signal};

use crate::lab::{Bench, eventually, line};
use crate::terminal::code;

const FILE: &str = "
metadata: {name: lab}
export:
  vm: {type: qemu, config: {arch: x86_64, mem: 64M, smp: 1}}
  screen: {type: vnc, children: {tcp: {ref: vm.vnc}}}
  locked:
    type: jumpstarter_driver_vnc.driver.Vnc
    config: {default_encrypt: true}
    children: {tcp: {type: unix, config: {path: locked}}}
";

/// The size of a PNG file.
fn size(file: &[u8]) -> (u32, u32) {
    assert_eq!(&file[1..4], b"PNG");
    let number = |place: usize| u32::from_be_bytes(file[place..place + 4].try_into().unwrap());
    (number(16), number(20))
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_of_a_machine() {
    if !qemu_available(Arch::X86_64) {
        return;
    }
    let bench = Bench::of(FILE).await;
    let off = bench.j(&["vm", "vnc", "snapshot"]).await;
    assert!(off.contains("it is off"), "{off}");
    assert_eq!(bench.j(&["vm", "power", "on"]).await, "");
    // The BIOS sets the text mode.
    eventually("the BIOS has set up the screen", async || {
        (bench.j(&["vm", "vnc", "snapshot"]).await == "screen.png: 720x400\n").then_some(())
    })
    .await;
    assert_eq!(size(&std::fs::read(bench.lab.path("screen.png")).unwrap()), (720, 400));
    let named = bench.j(&["screen", "snapshot", "-o", "named.png", "--output", "json"]).await;
    assert!(
        named.starts_with(r#"{"file":"named.png","width":720,"height":400,"name":"QEMU"#),
        "{named}"
    );
    let help = bench.j(&["vm", "vnc"]).await;
    assert!(help.contains("snapshot") && help.contains("session"), "{help}");
    let help = bench.j(&["vm", "console", "--help"]).await;
    assert!(!help.contains("snapshot"), "{help}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_that_of_the_environment() {
    if !qemu_available(Arch::X86_64) {
        return;
    }
    let bench = Bench::of(FILE).await;
    let place = bench.lab.path("locked");
    let vnc = format!("unix:{},password-secret=p", place.display());
    let locked = Command::new("qemu-system-x86_64")
        .args([
            "-S",
            "-nodefaults",
            "-vga",
            "std",
            "-object",
            "secret,id=p,data=hush",
            "-vnc",
            &vnc,
        ])
        .spawn()
        .await
        .unwrap();
    eventually("QEMU listens", async || {
        assert!(locked.is_running(), "{}", locked.stderr_tail());
        std::os::unix::net::UnixStream::connect(&place).ok()
    })
    .await;
    let snapshot = async |password: Option<&str>| {
        let command = bench.command(&["locked", "snapshot", "-o", "locked.png"]);
        let command = match password {
            Some(password) => command.env("JMP_VNC_PASSWORD", password),
            None => command.env_remove("JMP_VNC_PASSWORD"),
        };
        bench.run(command).await
    };
    assert_eq!(snapshot(Some("hush")).await, "locked.png: 640x480\n");
    let none = snapshot(None).await;
    assert!(none.contains("the VNC server asks for a password"), "{none}");
    assert!(none.contains("$JMP_VNC_PASSWORD") && none.contains("exit code 1"), "{none}");
    let wrong = snapshot(Some("wrong")).await;
    assert!(
        wrong.contains("the VNC server refuses the login") && !wrong.contains("wrong"),
        "{wrong}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_opened_in_the_browser() {
    let bench = Bench::of(FILE).await;
    let check = async |words: &[&str], encrypt: &str, opens: bool| {
        let opened = bench.lab.path("opened");
        let browser = bench.lab.path("browser");
        std::fs::write(&browser, format!("#!/bin/sh\necho \"$1\" >'{}'\n", opened.display()))
            .unwrap();
        std::fs::set_permissions(&browser, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let command = bench.command(&[&["locked", "session"], words].concat());
        let (session, mut lines) = crate::lab::start(command.env("BROWSER", &browser)).await;
        let url = line(&mut lines, &session).await;
        assert!(
            url.starts_with(&format!(
                "https://novnc.com/noVNC/vnc.html?encrypt={encrypt}&autoconnect=1"
            )),
            "{url}"
        );
        if opens {
            eventually("the browser has the URL", async || {
                std::fs::read_to_string(&opened).ok().filter(|text| text.trim() == url)
            })
            .await;
            std::fs::remove_file(&opened).unwrap();
        }
        session.signal(Signal::INT);
        assert_eq!(code(&session).await, Some(0));
        assert!(!opened.exists());
    };
    check(&[], "1", true).await;
    check(&["--no-encrypt", "--no-browser"], "0", false).await;
}
