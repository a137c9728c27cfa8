//! What the operator's log says of calls, and of the clients that make them.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/inside.rs"]
mod inside;
#[path = "support/lab.rs"]
mod lab;
#[path = "support/terminal.rs"]
mod terminal;

use jumpstarter_supervise::{Child, Command, Signal, Sink, run_unchecked};
use tokio::io::{AsyncBufReadExt, BufReader};

use lab::{EVERYTHING, clean, eventually, jmp, transcript};
use terminal::{DEADLINE, J, Lab, code};

struct Exporter {
    lab: Lab,
    child: Child,
    host: String,
}

impl Exporter {
    async fn start(level: &str, stderr: Sink) -> Self {
        Self::of(EVERYTHING, level, stderr).await
    }

    async fn of(file: &str, level: &str, stderr: Sink) -> Self {
        let lab = Lab::new(file);
        let (file, socket) = (lab.file(), lab.path("s"));
        let host = socket.to_str().unwrap().to_owned();
        let words =
            ["run", "--exporter-config", &file, "--log-level", level, "--listen-unix", &host];
        let child = jmp(&words).stdout(Sink::Piped).stderr(stderr).spawn().await.unwrap();
        let mut lines = BufReader::new(child.take_stdout().unwrap()).lines();
        let line = tokio::time::timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap();
        assert!(line.is_some_and(|line| line.starts_with("ready ")), "{}", child.stderr_tail());
        Self { lab, child, host }
    }

    async fn j(&self, words: &[&str]) -> String {
        let command = clean(Command::new(J)).args(words).env("JUMPSTARTER_HOST", &self.host);
        transcript(&run_unchecked(command, DEADLINE).await.unwrap())
    }

    /// The log, once the last client's leaving is in it.
    async fn log(&self, clients: usize) -> String {
        eventually("all clients have left", async || {
            let log = self.child.stderr_tail();
            (log.matches("a client left").count() == clients).then_some(log)
        })
        .await
    }

    async fn end(self) {
        self.child.signal(Signal::TERM);
        assert_eq!(code(&self.child).await, Some(0));
    }
}

/// The lines without their times.
fn lines(log: &str) -> Vec<&str> {
    let untimed = |line: &'_ str| -> usize {
        let (date, rest) = line.split_at("2026-11-28T12:34:56.789Z ".len());
        assert!(date.starts_with("20") && date.ends_with("Z ") && date.contains('T'), "{line}");
        line.len() - rest.len()
    };
    log.lines().map(|line| &line[untimed(line)..]).collect()
}

#[tokio::test]
async fn a_call_that_fails_is_a_warning_with_its_error() {
    let exporter = Exporter::start("info", Sink::Tail(65536)).await;
    let said = exporter.j(&["flasher", "dump", "-"]).await;
    assert!(said.contains("error: nothing was flashed to `default`"), "{said}");
    exporter.j(&["call", "power", "on"]).await;
    let log = exporter.log(2).await;
    let of_calls: Vec<&str> =
        lines(&log).into_iter().filter(|line| line.contains("Operation")).collect();
    let [line] = of_calls[..] else { panic!("{log}") };
    assert!(
        line.starts_with(
            "WARNING flasher dump: Operation failed: nothing was flashed to `default`"
        ),
        "{log}"
    );
    assert!(line.contains(" error_type=internal_error kind=NotFound result=failure"), "{log}");
    exporter.end().await;
}

/// Wrong arguments too: a warning without a reason helps nobody.
#[tokio::test]
async fn what_is_wrong_with_arguments_is_in_the_log() {
    let file = "export: {flasher: {type: file-flasher, config: {targets: {root: /tmp/no-such-file.img}}}}\n";
    let exporter = Exporter::of(file, "info", Sink::Tail(65536)).await;
    let said = exporter.j(&["flasher", "dump", "-", "-t", "rot"]).await;
    let log = exporter.log(1).await;
    let line =
        lines(&log).into_iter().find(|line| line.contains("Operation failed")).unwrap_or(&log);
    assert!(line.contains(" error_type=validation_error kind=InvalidArgument "), "{log}");
    let why = line
        .strip_prefix("WARNING flasher dump: Operation failed: ")
        .unwrap_or_else(|| panic!("{log}"));
    assert!(why.contains("`rot`") && said.contains("`rot`"), "{said}{log}");
    exporter.end().await;
}

#[tokio::test]
async fn at_debug_every_call_has_its_outcome_and_duration() {
    let exporter = Exporter::start("debug", Sink::Tail(65536)).await;
    exporter.j(&["power", "on"]).await;
    exporter.j(&["power", "read"]).await;
    exporter.j(&["call", "power", "explode"]).await;
    exporter.j(&["reset"]).await;
    let log = exporter.log(4).await;
    for (call, outcome) in [
        ("INFO    power on: Operation started", ""),
        ("INFO    power on: Operation completed", "result=success"),
        ("INFO    power read: Operation completed", "result=success"),
        ("WARNING power explode: Operation failed: ", "result=failure"),
        ("INFO    reset: Operation completed", "result=success"),
    ] {
        let line = lines(&log).into_iter().find(|line| line.starts_with(call));
        let line = line.unwrap_or_else(|| panic!("no `{call}`: {log}"));
        assert!(line.contains(outcome), "{line}");
        assert!(outcome.is_empty() || line.contains(" duration="), "{line}");
    }
    exporter.end().await;
}

#[tokio::test]
async fn a_call_that_its_client_gives_up_is_in_the_log() {
    let exporter = Exporter::start("debug", Sink::Tail(65536)).await;
    // It reads from a pipe that never ends.
    let script = format!("sleep 1000 | '{J}' flasher flash -");
    let client = clean(Command::new("/bin/sh"))
        .args(["-c", &script])
        .env("JUMPSTARTER_HOST", &exporter.host);
    let client = client.spawn().await.unwrap();
    let logged = async |text: &str| {
        let log = || exporter.child.stderr_tail();
        eventually(text, async || log().contains(text).then_some(())).await;
    };
    logged("flasher flash: Operation started").await;
    client.kill();
    logged("flasher flash: Operation cancelled duration=").await;
    exporter.end().await;
}

#[tokio::test]
async fn clients_that_come_and_go_are_in_the_log_and_not_told_to_others() {
    let exporter = Exporter::start("info", Sink::Tail(65536)).await;
    let follow = clean(Command::new(J)).args(["--log-level", "debug", "log"]);
    let follow = follow.env("JUMPSTARTER_HOST", &exporter.host).stderr(Sink::Tail(65536));
    let (follower, mut said) = lab::start(follow).await;
    eventually("the log is followed", async || {
        follower.stderr_tail().contains("following").then_some(())
    })
    .await;
    exporter.j(&["power", "on"]).await;
    let log = exporter.log(1).await;
    assert_eq!(log.matches("a client connected address=unix").count(), 2, "{log}");
    assert!(log.contains("a client left address=unix duration="), "{log}");
    for expected in ["Operation started", "power on", "Operation completed"] {
        let record = lab::line(&mut said, &follower).await;
        assert!(record.ends_with(expected), "{record}");
    }
    follower.signal(Signal::INT);
    exporter.end().await;
}

/// A method's name is the client's choice: it must not look like another line, nor reach the
/// terminal raw.
#[tokio::test]
async fn a_client_forges_no_line() {
    let exporter = Exporter::start("info", Sink::Tail(1 << 20)).await;
    let name = "on\n2026-01-01T00:00:00.000Z ERROR   all is lost\u{1b}]0;title\u{7}\u{202e}\r";
    exporter.j(&["call", "power", name]).await;
    exporter.j(&["call", "power", &"x".repeat(100_000)]).await;
    let log = exporter.log(2).await;
    assert!(log.chars().all(|letter| letter == '\n' || !letter.is_control()), "{log:?}");
    assert!(
        !log.contains('\u{202e}') && !lines(&log).iter().any(|line| line.starts_with("ERROR")),
        "{log}"
    );
    assert!(
        log.contains(r"power on\n2026-01-01T00:00:00.000Z ERROR   all is lost\u{1b}]0;title"),
        "{log}"
    );
    assert!(log.len() < 50_000, "{} bytes", log.len());
    exporter.end().await;
}

#[tokio::test]
async fn a_failing_call_is_told_once_in_a_shell() {
    let lab = Lab::new(EVERYTHING);
    let words = ["shell", "--exporter-config", "lab.yaml", "--", J, "flasher", "dump", "-"];
    let output = run_unchecked(jmp(&words).current_dir(lab.folder()), DEADLINE).await.unwrap();
    assert_eq!(output.stderr.matches("nothing was flashed").count(), 1, "{}", output.stderr);
}

/// A terminal that is held with Ctrl-S, or a pipe that nobody reads.
#[tokio::test]
async fn a_log_that_nobody_reads_stops_no_call() {
    let exporter = Exporter::start("debug", Sink::Piped).await;
    let unread = exporter.child.take_stderr().unwrap();
    // Each call has two lines of some 100 bytes; a pipe takes 64 KiB.
    let script = format!("for i in $(seq 50); do '{J}' power cycle --wait 0 || exit 1; done");
    let calls = || {
        let clients: Vec<Command> = (0..6)
            .map(|_| {
                clean(Command::new("/bin/sh"))
                    .args(["-c", &script])
                    .env("JUMPSTARTER_HOST", &exporter.host)
            })
            .collect();
        clients.into_iter().map(|command| run_unchecked(command, DEADLINE * 3))
    };
    for output in futures_util::future::join_all(calls()).await {
        let output = output.expect("no call waits for the log");
        assert!(output.status.success(), "{}", output.stderr);
    }
    exporter.child.signal(Signal::TERM);
    assert_eq!(
        code(&exporter.child).await,
        Some(0),
        "its end waits for the log no longer than a moment"
    );
    drop(unread);
    drop(exporter.lab);
}

/// As upstream's: for filters of logs, and for telemetry.
#[tokio::test]
async fn drivers_have_categories() {
    let exporter = Exporter::start("info", Sink::Tail(65536)).await;
    let follow = clean(Command::new(J)).args(["--log-level", "debug", "log", "--output", "json"]);
    let follow = follow.env("JUMPSTARTER_HOST", &exporter.host).stderr(Sink::Tail(65536));
    let (follower, mut said) = lab::start(follow).await;
    eventually("the log is followed", async || {
        follower.stderr_tail().contains("following").then_some(())
    })
    .await;
    for (driver, category) in [
        ("power", "power"),
        ("echo", "network"),
        ("console", "serial"),
        ("flasher", "storage"),
        ("rack", "composite"),
        ("rack.web", "network"),
        ("rack.shelf.power", "power"),
    ] {
        exporter.j(&["call", driver, "explode"]).await;
        let record = async {
            loop {
                let record = lab::line(&mut said, &follower).await;
                let record: serde_json::Value = serde_json::from_str(&record).unwrap();
                if record["message"]
                    .as_str()
                    .is_some_and(|text| text.starts_with("Operation failed"))
                {
                    return record;
                }
            }
        };
        let record = record.await;
        assert_eq!(
            (&record["driver"], &record["driver_type"]),
            (&driver.into(), &category.into()),
            "{record}"
        );
        assert_eq!(
            (&record["operation"], &record["severity"]),
            (&"explode".into(), &"WARNING".into())
        );
    }
    follower.signal(Signal::INT);
    exporter.end().await;
}

/// What a client may not do now is in the log at `debug`.
#[tokio::test]
async fn a_call_that_is_refused_while_a_hook_runs_is_in_the_log() {
    let file = "export: {power: {type: mock-power}}\nhooks: {beforeLease: {script: 'echo begun; sleep 1000'}}\n";
    let exporter = Exporter::of(file, "debug", Sink::Tail(65536)).await;
    eventually("the hook runs", async || {
        exporter.child.stderr_tail().contains(" begun").then_some(())
    })
    .await;
    let said = exporter.j(&["power", "on"]).await;
    assert!(said.contains("the beforeLease hook is running"), "{said}");
    let log = exporter.log(1).await;
    assert!(log.contains("a call was refused error=the beforeLease hook is running"), "{log}");
    assert!(log.contains("method=/jumpstarter.v1.ExporterService/DriverCall"), "{log}");
    exporter.end().await;
}
