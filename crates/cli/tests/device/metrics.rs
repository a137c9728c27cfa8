//! `jmp run --metrics`.

use jumpstarter_driver_testkit::guest::{Arch, qemu_available};
use jumpstarter_driver_testkit::pico;
use jumpstarter_supervise::{Child, Input};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::lab::{Bench, clean, eventually, jmp, line, start};
use crate::terminal::{DEADLINE, Lab, code};

const FILE: &str = "
metadata: {name: lab}
export:
  power: {type: mock-power}
  echo: {type: echo}
  # Nobody listens at the first of the ports.
  nobody: {type: tcp, config: {host: 127.0.0.1, port: 1}}
";

/// An exporter with metrics, and where they are.
async fn exporter(file: &str) -> (Bench, String) {
    let lab = Lab::new(file);
    let socket = lab.path("s");
    let socket = socket.to_str().unwrap();
    let file = lab.file();
    let words =
        ["run", "--exporter-config", &file, "--listen-unix", socket, "--metrics", "127.0.0.1:0"];
    let (exporter, mut lines) = start(jmp(&words)).await;
    let ready = line(&mut lines, &exporter).await;
    let host = ready.strip_prefix("ready ").unwrap().to_owned();
    let metrics = eventually("it says where metrics are", async || said_address(&exporter)).await;
    (Bench { lab, exporter, host }, metrics)
}

fn said_address(exporter: &Child) -> Option<String> {
    let log = exporter.stderr_tail();
    let line = log.lines().find(|line| line.contains("metrics are served"))?;
    Some(line.split("address=").nth(1)?.split_whitespace().next()?.to_owned())
}

/// The samples, a line each, sorted.
async fn samples(metrics: &str) -> Vec<String> {
    let asking = async {
        let mut connection = tokio::net::TcpStream::connect(metrics).await.unwrap();
        connection.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
        let mut page = String::new();
        connection.read_to_string(&mut page).await.unwrap();
        page
    };
    let page = tokio::time::timeout(DEADLINE, asking).await.unwrap();
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200 OK"), "{head}");
    let samples = body.lines().filter(|line| !line.starts_with('#'));
    let mut samples: Vec<String> =
        samples.map(|line| line.strip_prefix("jumpstarter_").unwrap().to_owned()).collect();
    samples.sort();
    samples
}

#[tokio::test]
async fn metrics_count_calls_errors_streams_and_bytes() {
    let (bench, metrics) = exporter(FILE).await;
    let counted = async |expected: &[&str]| {
        let mut seen = Vec::new();
        let reached = eventually("the figures", async || {
            seen = samples(&metrics).await;
            (seen == expected).then_some(())
        });
        if tokio::time::timeout(DEADLINE / 4, reached).await.is_err() {
            panic!("{:#?} instead of {expected:#?}", samples(&metrics).await);
        }
    };
    let nothing =
        ["calls_total 0", "open_streams 0", "received_bytes_total 0", "sent_bytes_total 0"];
    counted(&nothing).await;

    for word in ["on", "off", "on"] {
        assert_eq!(bench.j(&["power", word]).await, "");
    }
    bench.j(&["call", "power", "explode"]).await;
    bench.j(&["call", "power", "explode"]).await;
    bench.j(&["stream", "nobody"]).await;
    let failed = [
        "calls_total 6",
        "errors_total{kind=\"NotFound\"} 2",
        "errors_total{kind=\"Unavailable\"} 1",
        "open_streams 0",
        "received_bytes_total 0",
        "sent_bytes_total 0",
    ];
    counted(&failed).await;

    let command = bench.command(&["stream", "echo"]).stdin(Input::Piped);
    let (stream, mut lines) = start(command).await;
    let mut input = stream.take_stdin().unwrap();
    input.write_all(b"hello\n").await.unwrap();
    assert_eq!(line(&mut lines, &stream).await, "hello");
    let open = [
        "calls_total 7",
        failed[1],
        failed[2],
        "open_streams 1",
        "received_bytes_total 6",
        "sent_bytes_total 6",
    ];
    counted(&open).await;

    drop(input);
    assert_eq!(code(&stream).await, Some(0), "{}", stream.stderr_tail());
    counted(&[open[0], open[1], open[2], "open_streams 0", open[4], open[5]]).await;
}

#[tokio::test]
async fn metrics_show_what_a_machine_is_doing() {
    if !qemu_available(Arch::X86_64) {
        return;
    }
    let config = "{arch: x86_64, accel: tcg, mem: 64M, smp: 1}";
    let file =
        format!("export: {{rack: {{children: {{qemu: {{type: qemu, config: {config}}}}}}}}}");
    let (bench, metrics) = exporter(&file).await;
    let states = async || {
        let mut states = samples(&metrics).await;
        states.retain(|sample| sample.starts_with("machine_state"));
        states
    };
    let only = |now: &str| {
        let mut states: Vec<String> =
            ["crashed", "destroyed", "off", "paused", "running", "starting", "stopping"]
                .map(|state| {
                    let value = u8::from(state == now);
                    format!("machine_state{{path=\"rack.qemu\",state=\"{state}\"}} {value}")
                })
                .into();
        states.sort();
        states
    };
    assert_eq!(states().await, only("off"));
    pico::write_to(bench.lab.path("pico.img")).unwrap();
    assert!(!bench.j(&["rack.qemu.flasher", "flash", "pico.img"]).await.contains("exit code"));
    for (words, state) in [
        (["rack.qemu.power", "on"], "running"),
        (["rack.qemu", "pause"], "paused"),
        (["rack.qemu", "resume"], "running"),
        (["rack.qemu.power", "off"], "off"),
    ] {
        assert_eq!(bench.j(&words).await, "");
        let wanted = only(state);
        eventually(state, async || (states().await == wanted).then_some(())).await;
    }
}

#[tokio::test]
async fn metrics_where_nobody_may_listen_are_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let lab = Lab::new(FILE);
    let (file, socket) = (lab.file(), lab.path("s"));
    let words = ["run", "--exporter-config", &file, "--metrics", &address, "--listen-unix"];
    let output = jumpstarter_supervise::run_unchecked(clean(jmp(&words)).arg(&socket), DEADLINE)
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        output.stderr.contains(&format!("listening for metrics at {address}")),
        "{}",
        output.stderr
    );
    assert!(!socket.exists());
}
