//! `jmp run`.

use insta::assert_snapshot;
use jumpstarter_driver_testkit::guest::{Arch, qemu_available};
use jumpstarter_supervise::{Child, Command, Signal, Sink, run_unchecked};

use crate::lab::{EVERYTHING, Lines, clean, eventually, jmp, line, start, transcript};
use crate::terminal::{DEADLINE, J, Lab, code};

async fn said(lab: &Lab, words: &[&str]) -> String {
    let words = [&["run", "--exporter-config", "lab.yaml"], words].concat();
    let output = run_unchecked(jmp(&words).current_dir(lab.folder()), DEADLINE).await.unwrap();
    lab.plain(&transcript(&output))
}

/// Starts an exporter, and answers with it, its further lines, and where it is.
async fn ready(command: Command) -> (Child, Lines, String) {
    let (child, mut lines) = start(command).await;
    let first = line(&mut lines, &child).await;
    let address = first.strip_prefix("ready ").unwrap_or_else(|| panic!("{first}"));
    let address = address.trim_start_matches("tcp://").to_owned();
    (child, lines, address)
}

async fn j(host: &str, passphrase: Option<&str>, words: &[&str]) -> String {
    let command = clean(Command::new(J))
        .args(words)
        .env("JUMPSTARTER_HOST", host)
        .env("JMP_GRPC_INSECURE", "1");
    let command = match passphrase {
        Some(passphrase) => command.env("JMP_GRPC_PASSPHRASE", passphrase),
        None => command,
    };
    transcript(&run_unchecked(command, DEADLINE).await.unwrap()).replace(host, "HOST")
}

const TCP: [&str; 3] = ["--tls-grpc-listener", "127.0.0.1:0", "--tls-grpc-insecure"];

#[tokio::test]
async fn nowhere_to_listen() {
    let lab = Lab::new(EVERYTHING);
    assert_snapshot!(said(&lab, &[]).await, @r"
    --- stderr
    error: no address to listen at is given
    hint: add --tls-grpc-listener [HOST:]PORT or --listen-unix PATH, or `endpoint` and `token` to the exporter file to join a controller
    --- exit code 2
    ");
}

#[tokio::test]
async fn a_wrong_endpoint_is_no_controller() {
    let controller = "endpoint: https://controller.example\ntoken: secret\nmotd:";
    let lab = Lab::new(&EVERYTHING.replace("motd:", controller));
    assert_snapshot!(said(&lab, &[]).await, @r"
    --- stderr
    error: `https://controller.example` is not the endpoint of a controller
    hint: write HOST:PORT, without a scheme, such as controller.example:8082
    --- exit code 1
    ");
}

#[tokio::test]
async fn flags_that_do_not_fit_together() {
    let lab = Lab::new(EVERYTHING);
    assert_snapshot!(said(&lab, &["--tls-grpc-listener", "0"]).await, @r"
    --- stderr
    error: a TCP listener needs TLS
    hint: add --tls-cert PEM --tls-key PEM, or --tls-grpc-insecure if the network is trusted
    --- exit code 2
    ");
    assert_snapshot!(said(&lab, &["--tls-grpc-insecure", "--listen-unix", "s"]).await, @r"
    --- stderr
    error: the following required arguments were not provided:
      --tls-grpc-listener <[HOST:]PORT>

    Usage: jmp run --tls-grpc-listener <[HOST:]PORT> --exporter-config <FILE> --tls-grpc-insecure --listen-unix <PATH> [FILE]

    For more information, try '--help'.
    --- exit code 2
    ");
    assert_snapshot!(said(&lab, &["--tls-grpc-listener", "0", "--tls-cert", "lab.pem"]).await, @r"
    --- stderr
    error: the following required arguments were not provided:
      --tls-key <PEM>

    Usage: jmp run --tls-cert <PEM> --tls-key <PEM> --exporter-config <FILE> --tls-grpc-listener <[HOST:]PORT> [FILE]

    For more information, try '--help'.
    --- exit code 2
    ");
    assert_snapshot!(said(&lab, &["--listen-unix", "s", "--passphrase", "x"]).await, @r"
    --- stderr
    error: the following required arguments were not provided:
      --tls-grpc-listener <[HOST:]PORT>

    Usage: jmp run --tls-grpc-listener <[HOST:]PORT> --exporter-config <FILE> --listen-unix <PATH> --passphrase <PASSPHRASE> [FILE]

    For more information, try '--help'.
    --- exit code 2
    ");
    let words = [&TCP[..], &["--passphrase", "x", "--passphrase-file", "y"]].concat();
    assert_snapshot!(said(&lab, &words).await, @r"
    --- stderr
    error: the argument '--passphrase <PASSPHRASE>' cannot be used with '--passphrase-file <FILE>'

    Usage: jmp run --exporter-config <FILE> --tls-grpc-listener <[HOST:]PORT> --tls-grpc-insecure --passphrase <PASSPHRASE> [FILE]

    For more information, try '--help'.
    --- exit code 2
    ");
    assert_snapshot!(said(&lab, &[&TCP[..], &["--passphrase-file", "none"]].concat()).await, @r"
    --- stderr
    error: reading the passphrase of none: No such file or directory (os error 2)
    --- exit code 1
    ");
    assert_snapshot!(said(&lab, &[&TCP[..], &["--passphrase", ""]].concat()).await, @r"
    --- stderr
    error: invalid value '' for '--passphrase <PASSPHRASE>': an empty passphrase protects nothing

    For more information, try '--help'.
    --- exit code 2
    ");
    assert_snapshot!(said(&lab, &["--exporter", "lab", "--listen-unix", "s"]).await, @r"
    --- stderr
    error: the argument '--exporter-config <FILE>' cannot be used with '--exporter <ALIAS>'

    Usage: jmp run --exporter-config <FILE> --listen-unix <PATH> [FILE]

    For more information, try '--help'.
    --- exit code 2
    ");
}

#[tokio::test]
async fn a_passphrase_is_asked_for_wherever_it_comes_from() {
    let lab = Lab::new(EVERYTHING);
    let file = lab.file();
    std::fs::write(lab.path("secret"), "open: sesame\nignored").unwrap();
    let secret = lab.path("secret");
    let run = [&["run", "--exporter-config", &file], &TCP[..]].concat();
    let mut refused = Vec::new();
    for command in [
        jmp(&run).args(["--passphrase", "open: sesame"]),
        jmp(&run).arg("--passphrase-file").arg(&secret),
        jmp(&run).env("JMP_GRPC_PASSPHRASE", "open: sesame"),
    ] {
        let (_exporter, _, host) = ready(command).await;
        assert_eq!(j(&host, Some("open: sesame"), &["power", "on"]).await, "");
        for wrong in [Some("wrong"), None] {
            let said = j(&host, wrong, &["power", "on"]).await;
            assert!(said.ends_with("--- exit code 3\n"), "{said}");
            if !refused.contains(&said) {
                refused.push(said);
            }
        }
    }
    assert_snapshot!(refused.join(""), @r"
    --- stderr
    error: HOST does not accept the passphrase
    hint: check JMP_GRPC_PASSPHRASE
    --- exit code 3
    --- stderr
    error: HOST asks for a passphrase
    hint: set JMP_GRPC_PASSPHRASE (--passphrase)
    --- exit code 3
    ");
}

#[tokio::test]
async fn the_log_as_json() {
    let lab = Lab::new(EVERYTHING);
    let socket = lab.path("s");
    let words = [
        "run",
        "--exporter-config",
        &lab.file(),
        "--listen-unix",
        socket.to_str().unwrap(),
        "--log-format",
        "json",
    ];
    let (exporter, _, host) = ready(jmp(&words)).await;
    assert_eq!(j(&host, None, &["power", "on"]).await, "");
    exporter.signal(Signal::TERM);
    assert_eq!(code(&exporter).await, Some(0));
    let log = exporter.stderr_tail();
    let records: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect();
    assert!(records.iter().any(|record| record["message"] == "power on"), "{log}");
}

#[tokio::test]
async fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
    let lab = Lab::new(EVERYTHING);
    let (told, socket) = (lab.path("notify"), lab.path("s"));
    let systemd = tokio::net::UnixDatagram::bind(&told).unwrap();
    let words =
        ["run", "--exporter-config", &lab.file(), "--listen-unix", socket.to_str().unwrap()];
    let (exporter, _, _) = ready(jmp(&words).env("NOTIFY_SOCKET", &told)).await;
    let next = async || {
        let mut buffer = [0; 256];
        let count =
            tokio::time::timeout(DEADLINE, systemd.recv(&mut buffer)).await.unwrap().unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    assert_eq!(next().await, "READY=1");
    exporter.signal(Signal::TERM);
    let stopping = next().await;
    let (said, until) = stopping.split_once('\n').unwrap();
    assert!(said == "STOPPING=1" && until.starts_with("EXTEND_TIMEOUT_USEC="), "{stopping}");
    assert_eq!(code(&exporter).await, Some(0));
}

/// An afterLease hook that takes ten minutes is ended by the second signal.
#[tokio::test]
async fn a_second_signal_hurries() {
    let lab = Lab::new(&format!(
        "{EVERYTHING}hooks: {{afterLease: {{script: 'touch hooked; exec sleep 600', timeout: 900}}}}\n"
    ));
    let socket = lab.path("s");
    let words = ["run", "--exporter-config", "lab.yaml", "--listen-unix", socket.to_str().unwrap()];
    let (exporter, _, host) =
        ready(jmp(&words).current_dir(lab.folder()).stderr(Sink::Tail(65536))).await;
    assert_eq!(j(&host, None, &["power", "on"]).await, "");
    exporter.signal(Signal::TERM);
    let hooked = lab.path("hooked");
    eventually("the hook runs", async || hooked.exists().then_some(())).await;
    assert!(exporter.is_running());
    exporter.signal(Signal::TERM);
    code(&exporter).await;
    assert!(exporter.stderr_tail().contains("hurrying"), "{}", exporter.stderr_tail());
    assert!(!socket.exists());
}

#[tokio::test]
async fn guests_that_reach_a_port_without_a_passphrase_are_told_of() {
    if !qemu_available(Arch::X86_64) {
        return;
    }
    let said = async |settings: &str, options: &[&str]| {
        let config = format!("{{arch: x86_64, accel: tcg, mem: 64M, smp: 1, {settings}}}");
        let lab = Lab::new(&format!(
            "export: {{rack: {{children: {{vm: {{type: qemu, config: {config}}}}}}}}}"
        ));
        let file = lab.file();
        let run = [&["run", "--exporter-config", &file], &TCP[..], options].concat();
        let (child, _lines, _address) = ready(jmp(&run)).await;
        // The log is whole at its end.
        child.signal(Signal::TERM);
        code(&child).await;
        child.stderr_tail()
    };
    let warning = "what runs in `rack.vm` may use the device, too";
    let open = said("", &[]).await;
    assert!(open.contains(warning) && open.contains("restrict: true"), "{open}");
    for (settings, options) in
        [("restrict: true", &[][..]), ("", &["--passphrase", "open: sesame"])]
    {
        let said = said(settings, options).await;
        assert!(!said.contains(warning), "{settings} {options:?}: {said}");
    }
}

/// What a hook prints, every client may read.
#[tokio::test]
async fn the_environment_of_a_hook_has_no_secrets() {
    let lab = Lab::new(&format!(
        "{EVERYTHING}hooks: {{beforeLease: {{script: 'env; echo hook-done'}}}}\n"
    ));
    let words = ["run", "--exporter-config", "lab.yaml"];
    let run =
        jmp(&[&words[..], &TCP].concat()).current_dir(lab.folder()).stderr(Sink::Tail(1 << 20));
    let run = run.env("JMP_GRPC_PASSPHRASE", "hush: passphrase").env("JMP_TOKEN", "hush: token");
    let (exporter, _lines, address) = ready(run).await;
    eventually("the hook ends", async || {
        exporter.stderr_tail().contains("hook-done").then_some(())
    })
    .await;
    let log = exporter.stderr_tail();
    assert!(log.contains("JUMPSTARTER_HOST=") && !log.contains("hush"), "{log}");
    // It is asked for all the same.
    let unnamed = j(&address, None, &["power", "on"]).await;
    assert!(unnamed.contains("JMP_GRPC_PASSPHRASE"), "{unnamed}");
}
