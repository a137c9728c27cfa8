//! Verbs of virtual machines, on one that runs the pico guest.

use insta::assert_snapshot;
use jumpstarter_driver_testkit::guest::{Arch, qemu_available};
use jumpstarter_driver_testkit::{pico, skip};
use jumpstarter_supervise::{Command, Input, run_unchecked};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::lab::{Bench, clean, eventually, line};
use crate::terminal::{DEADLINE, J, Lab, code};

const FILE: &str = "
metadata: {name: lab}
export:
  qemu: {type: qemu, config: {arch: x86_64, mem: 64M, smp: 1}}
";

/// A machine whose disk is the pico guest; none, after a skip, where there is no QEMU.
async fn machine() -> Option<Bench> {
    if !qemu_available(Arch::X86_64) {
        return None;
    }
    let bench = Bench::of(FILE).await;
    pico::write_to(bench.lab.path("pico.img")).unwrap();
    Some(bench)
}

#[tokio::test]
async fn a_machine_from_flash_to_off() {
    let Some(bench) = machine().await else { return };
    assert_snapshot!(bench.j(&["qemu", "state"]).await, @"off");
    assert_snapshot!(bench.j(&["qemu", "flasher", "flash", "pico.img"]).await, @r"
    --- stderr
    pico.img: 512.00 KiB in TIME (RATE)
    ");
    assert_eq!(bench.j(&["qemu", "power", "on"]).await, "");
    assert_snapshot!(bench.j(&["qemu", "wait", "running"]).await, @"running");
    assert_snapshot!(bench.j(&["qemu", "state", "--output", "json"]).await, @r#"{"state":"running"}"#);
    assert_eq!(bench.j(&["qemu", "pause"]).await, "");
    assert_snapshot!(bench.j(&["qemu", "state"]).await, @"paused");
    assert_eq!(bench.j(&["qemu", "resume"]).await, "");
    // What the guest says reaches a pipe.
    let (console, mut lines) = bench.start(&["qemu", "console", "pipe", "--no-input"]).await;
    let booted = async { while !line(&mut lines, &console).await.contains(pico::BANNER) {} };
    tokio::time::timeout(DEADLINE, booted).await.unwrap();
    console.signal(jumpstarter_supervise::Signal::INT);
    assert_eq!(code(&console).await, Some(0));
    assert_snapshot!(bench.j(&["qemu", "stop"]).await, @"the guest shut down");
    assert_snapshot!(bench.j(&["qemu", "state"]).await, @"off");
    assert_snapshot!(bench.j(&["qemu", "stop", "--output", "json"]).await, @r#""already-off""#);
}

#[tokio::test]
async fn records_of_what_a_machine_made_have_their_category() {
    let Some(bench) = machine().await else { return };
    let (log, mut records) = bench.follow(&["log", "-n", "1", "--output", "json"]).await;
    bench.j(&["call", "qemu.power", "explode"]).await;
    let record: serde_json::Value = serde_json::from_str(&line(&mut records, &log).await).unwrap();
    assert_eq!(record["driver_type"], "power", "{record}");
    assert_eq!(
        (&record["driver"], &record["operation"]),
        (&"qemu.power".into(), &"explode".into())
    );
}

#[tokio::test]
async fn sizes_and_settings() {
    let Some(bench) = machine().await else { return };
    assert_snapshot!(bench.j(&["qemu", "resize", "disk", "20G"]).await, @r"
    --- stderr
    disk: 20 GiB from the next power-on
    ");
    assert_snapshot!(bench.j(&["qemu", "resize", "memory", "2G"]).await, @r"
    --- stderr
    memory: 2 GiB from the next power-on
    ");
    assert_eq!(bench.j(&["qemu", "resize", "memory", "2G", "--output", "json"]).await, "null\n");
    assert_snapshot!(bench.j(&["qemu", "resize", "memory", "lots"]).await, @r"
    --- stderr
    error: `lots` is not a size: unknown unit `lots`
    hint: expected a size such as 512M, 20G or 1.5GiB
    --- exit code 2
    ");
    for (what, size) in [("memory", "2048"), ("disk", " 20 "), ("disk", "1.5")] {
        let said = bench.j(&["qemu", "resize", what, size]).await;
        let hint = format!("write `{0}M` or `{0}G`", size.trim());
        assert!(said.contains("a size without its unit") && said.contains(&hint), "{said}");
        assert!(said.trim_end().ends_with("exit code 2"), "{said}");
    }
    let said = bench.j(&["qemu", "resize", "disk", "100T"]).await;
    assert!(said.contains("more than 16 TiB") && said.contains("exit code 1"), "{said}");
    assert_snapshot!(bench.j(&["qemu", "resize"]).await, @r"
    --- stderr
    Sets the size of the root disk or of the memory, from the next power-on

    Usage: j qemu resize [OPTIONS] <COMMAND>

    Commands:
      disk    Sets the size of the root disk; it never shrinks
      memory  Sets the size of the memory

    Options:
          --output <FORMAT>  How to print answers, text by default; json is one value a line, errors too [possible values: text, json]
      -h, --help             Print help (see more with '--help')

    Examples:
      j qemu resize disk 20G
      j qemu resize memory 2G
    --- exit code 2
    ");
    assert_snapshot!(bench.j(&["qemu", "get-hostname"]).await, @"demo");
    assert_snapshot!(bench.j(&["qemu", "get-username", "--output", "json"]).await, @r#""jumpstarter""#);
}

#[tokio::test]
async fn what_a_machine_that_is_off_refuses() {
    let Some(bench) = machine().await else { return };
    assert_snapshot!(bench.j(&["qemu", "pause"]).await, @r"
    --- stderr
    error: cannot pause machine `qemu`: it is off
    hint: start it first
    --- exit code 1
    ");
    assert_snapshot!(bench.j(&["qemu", "wait", "running", "--timeout", "100ms"]).await, @r"
    --- stderr
    error: waiting for `running`: machine `qemu` is still off after 100 ms
    --- exit code 1
    ");
    assert_snapshot!(bench.j(&["qemu", "wait", "sleeping"]).await, @r"
    --- stderr
    error: invalid value 'sleeping' for '[STATE]'
      [possible values: off, starting, running, paused, stopping, crashed, destroyed]

      tip: a similar value exists: 'stopping'

    For more information, try '--help'.
    --- exit code 2
    ");
}

#[tokio::test]
async fn events_are_shown_as_they_come() {
    let Some(bench) = machine().await else { return };
    bench.j(&["qemu", "flasher", "flash", "pico.img"]).await;
    let words = ["--log-level", "debug", "qemu", "events", "--count", "1", "--output", "json"];
    let (events, mut lines) = bench.start(&words).await;
    // The first event may come before anybody listens: it is caused until one is seen.
    let first = tokio::select! {
        first = line(&mut lines, &events) => first,
        () = async { loop { bench.j(&["qemu", "power", "cycle", "--wait", "0"]).await; } } => unreachable!(),
    };
    let event: serde_json::Value = serde_json::from_str(&first).unwrap();
    assert!(event["name"].is_string() && event["state"].is_object(), "{first}");
    assert_eq!(code(&events).await, Some(0));
}

#[tokio::test]
async fn the_help_of_a_machine_lists_its_verbs() {
    let Some(bench) = machine().await else { return };
    let help = bench.j(&["qemu", "--help"]).await;
    let listed = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty());
    let names: Vec<&str> = listed.filter_map(|line| line.split_whitespace().next()).collect();
    assert_snapshot!(names.join(" "), @"power flasher console vnc state stop wait events destroy start pause resume reset power-button resize get-hostname get-username get-password");
    assert_snapshot!(bench.j_in_time(&["tree"]).await, @r"
    qemu        machine, qemu         off
    ├─ power    power                      the machine's plug
    ├─ flasher  flasher, oci_flasher       the machine's images
    ├─ console  serial                     the machine's serial console
    └─ vnc      network                    the machine's screen, VNC over a Unix socket
    ");
}

/// A session of a person: to a login on the console, away with Ctrl-B, and on in the same terminal.
#[tokio::test]
async fn a_terminal_is_sane_after_a_console() {
    let Some(bench) = machine().await else { return };
    if !Tmux::is_there().await {
        return skip("there is no tmux");
    }
    bench.j(&["qemu", "flasher", "flash", "pico.img"]).await;
    let tmux = Tmux::start(&bench.lab, &bench.host).await;
    tmux.line("stty -a > before; echo prepared").await;
    // What is typed before the prompt is there would be echoed before it.
    tmux.shows("\nprepared\nlab>").await;
    tmux.line("j qemu power on && j qemu console start-console").await;
    tmux.shows("press Ctrl-B three times to leave").await;
    tmux.shows(pico::LOGIN_PROMPT).await;
    tmux.line("root").await;
    tmux.shows(pico::PASSWORD_PROMPT).await;
    tmux.line("secret").await;
    tmux.shows(pico::PROMPT).await;
    tmux.keys(&["C-b", "C-b", "C-b"]).await;
    tmux.shows("Left the console of `qemu.console`.\nlab>").await;
    tmux.line("stty -a > after; echo 'typed and 'seen").await;
    tmux.shows("\ntyped and seen\nlab>").await;
    let screen = tmux.screen().await;
    assert!(screen.contains("echo 'typed and 'seen"), "it was not echoed: {screen}");
    assert!(!screen.contains("secret"), "{screen}");
    let settings = |name: &str| std::fs::read_to_string(bench.lab.path(name)).unwrap();
    assert_eq!(settings("after"), settings("before"));
    assert_snapshot!(screen.trim_end(), @r"
    lab> stty -a > before; echo prepared
    prepared
    lab> j qemu power on && j qemu console start-console
    Console of `qemu.console`: press Ctrl-B three times to leave.

    pico guest 1
    login: root
    Password:
    pico#
    Left the console of `qemu.console`.
    lab> stty -a > after; echo 'typed and 'seen
    typed and seen
    lab>
    ");
    bench.j(&["qemu", "power", "off"]).await;
}

/// A terminal with a shell in it, on a separate tmux server.
pub(crate) struct Tmux {
    server: jumpstarter_supervise::Child,
    socket: String,
    /// The `PATH` of this process, after the folder of `j`.
    path: String,
}

impl Tmux {
    pub(crate) async fn is_there() -> bool {
        let version = run_unchecked(Command::new("tmux").args(["-V"]), DEADLINE).await;
        version.is_ok_and(|output| output.status.success())
    }

    pub(crate) async fn start(lab: &Lab, host: &str) -> Self {
        let socket = lab.path("tmux").to_str().unwrap().to_owned();
        let programs = std::path::Path::new(J).parent().unwrap().to_str().unwrap();
        let folder = lab.folder().to_str().unwrap();
        let path = format!("{programs}:{}", std::env::var("PATH").unwrap_or_default());
        let host = format!("JUMPSTARTER_HOST={host}");
        // In the foreground, so that it ends with the test.
        let server = clean(Command::new("tmux"))
            .args(["-f", "/dev/null", "-S", &socket, "-D"])
            .env("LC_ALL", "C.UTF-8")
            .current_dir(lab.folder())
            .spawn()
            .await
            .unwrap();
        let tmux = Self { server, socket, path };
        eventually("tmux has a terminal", async || {
            let session = ["new-session", "-d", "-s", "lab", "-x", "100", "-y", "40"];
            tmux.ask(&[&session[..], &["-c", folder, "-e", &host, "sh"]].concat()).await
        })
        .await;
        tmux.line("PS1='lab'\"> \"; clear").await;
        tmux.shows("lab> ").await;
        tmux
    }

    async fn ask(&self, words: &[&str]) -> Option<String> {
        let command = Command::new("tmux")
            // Never start a second server while the first one does not listen yet.
            .args(["-N", "-S", &self.socket])
            .env("PATH", &self.path)
            .args(words)
            .stdin(Input::Null);
        let output = run_unchecked(command, DEADLINE).await.unwrap();
        output.status.success().then(|| output.stdout_text())
    }

    /// Types a line.
    pub(crate) async fn line(&self, text: &str) {
        self.ask(&["send-keys", "-t", "lab", "-l", text]).await.unwrap();
        self.keys(&["Enter"]).await;
    }

    async fn keys(&self, keys: &[&str]) {
        self.ask(&[&["send-keys", "-t", "lab"], keys].concat()).await.unwrap();
    }

    /// What is on the screen.
    async fn screen(&self) -> String {
        self.ask(&["capture-pane", "-t", "lab", "-p"]).await.unwrap()
    }

    pub(crate) async fn shows(&self, text: &str) {
        // tmux does not report spaces at a line's end.
        let text = text.trim_end();
        let mut last = String::new();
        let shown = async {
            loop {
                last = format!("\n{}", self.screen().await);
                if last.contains(text) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        let shown = tokio::time::timeout(DEADLINE, shown).await;
        assert!(shown.is_ok(), "no {text:?} on the screen: {last}; {}", self.server.stderr_tail());
    }
}

/// A shell whose machine still runs at its end closes it, and has no more to say about that than of
/// anything else.
#[tokio::test]
async fn a_shell_closes_its_machine_in_silence() {
    let Some(bench) = machine().await else { return };
    let hooks = "hooks: {afterLease: {script: echo all done}}";
    std::fs::write(bench.lab.path("hooked.yaml"), format!("{FILE}{hooks}\n")).unwrap();
    let words = ["shell", "--exporter-config", "hooked.yaml", "--", J, "qemu", "power", "on"];
    let shown = bench.run(crate::lab::jmp(&words).current_dir(bench.lab.folder())).await;
    let (_, said) =
        shown.split_once("INFO    ").unwrap_or_else(|| panic!("the hook's output: {shown}"));
    assert_eq!(said, "all done\n", "{shown}");
    assert_eq!(shown.lines().count(), 2, "{shown}");
}

#[tokio::test]
async fn an_endpoint_without_an_address_is_no_warning() {
    let bench = Bench::of("export: {echo: {type: echo}}").await;
    let (log, mut records) = bench.follow(&["log", "-n", "2", "--output", "json"]).await;
    assert_snapshot!(bench.j(&["tree"]).await, @"echo  network");
    for _ in 0..2 {
        let record: serde_json::Value =
            serde_json::from_str(&line(&mut records, &log).await).unwrap();
        assert_eq!(
            (&record["operation"], &record["severity"]),
            (&"address".into(), &"INFO".into()),
            "{record}"
        );
    }
}

/// A registry of one image, 512 zeros; it answers that number of requests.
async fn registry(requests: usize) -> (String, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let digest = "sha256:076a27c79e5ace2a3d47f9dd2e83e4ff6ea8872b3c2218f66c92b89b55f36560";
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest, "size": 2},
        "layers": [{"mediaType": "application/vnd.example.disk", "digest": digest, "size": 512}],
    });
    let serving = tokio::spawn(async move {
        for _ in 0..requests {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let count = client.read(&mut request).await.unwrap();
            let body = match String::from_utf8_lossy(&request[..count]).contains("/manifests/") {
                true => manifest.to_string().into_bytes(),
                false => vec![0; 512],
            };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            client.write_all(&[head.into_bytes(), body].concat()).await.unwrap();
        }
    });
    (address, serving)
}

#[tokio::test]
async fn an_image_in_a_registry_is_flashed_like_any_other() {
    let Some(bench) = machine().await else { return };
    let (address, serving) = registry(4).await;
    let url = format!("oci://{address}/lab/os:1");
    let said = bench.j(&["qemu", "flasher", "flash", &url, "--output", "json"]).await;
    let report: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
    assert_eq!(report["bytes"], 512, "{said}");
    // The zeros are no gzip: the option counts.
    let said = bench.j(&["qemu", "flasher", "flash", &url, "--compression", "gzip"]).await;
    assert!(said.contains("--- exit code 1") && said.contains("gzip"), "{said}");
    serving.await.unwrap();
    let refused = bench.j(&["qemu", "flasher", "flash", "oci://127.0.0.1:1/os:1"]).await;
    assert!(refused.contains("connecting to 127.0.0.1:1"), "{refused}");
}
