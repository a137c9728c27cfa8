//! How an exporter ends, and what stays of clients that are killed: real processes, real signals.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jumpstarter_protocol::v1::{
    EndSessionRequest, ExporterStatus, GetStatusRequest, GetStatusResponse, LogSource, ResetRequest,
    StreamingDriverCallRequest,
};
use rustix::process::{Pid, Signal, kill_process};
use support::{Client, DEADLINE, connect, frame, transport};
use tonic::Code;

const EXPORT: &str = "
export:
  power: {type: jumpstarter_driver_power.driver.MockPower}
  echo: {type: jumpstarter_driver_network.driver.EchoNetwork}
  console: {type: jumpstarter_driver_pyserial.driver.PySerial, config: {url: 'loop://'}}
";

/// A program of the folder `examples`, which is built with the tests.
#[expect(clippy::disallowed_methods, reason = "what is tested is how it ends by itself, or is killed")]
fn example(name: &str) -> Command {
    let tests = std::env::current_exe().unwrap();
    Command::new(tests.ancestors().nth(2).unwrap().join("examples").join(name))
}

#[expect(clippy::disallowed_methods, reason = "it becomes the program that is tested")]
fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, "sh"]);
    command
}

/// A running exporter, in a folder of its own, which is also where its temporary files are.
struct Exporter {
    child: Child,
    folder: tempfile::TempDir,
}

impl Exporter {
    fn start(config: impl FnOnce(&Path) -> String) -> Self {
        Self::start_by(config, "exec \"$@\"")
    }

    /// Started by a script for a shell, which becomes the exporter.
    fn start_by(config: impl FnOnce(&Path) -> String, script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tmp")).unwrap();
        let file = folder.path().join("exporter.yaml");
        std::fs::write(&file, config(folder.path())).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = shell(script);
        command
            .arg(example("serve").get_program())
            .arg(&file)
            .arg(folder.path().join("socket"))
            .stdin(Stdio::null());
        command.env("TMPDIR", folder.path().join("tmp")).env_remove("XDG_RUNTIME_DIR");
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{}", std::fs::read_to_string(folder.path().join("log")).unwrap());
        Self { child, folder }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    async fn until_logged(&self, words: &str) {
        until(|| self.log().contains(words).then_some(()), || format!("`{words}` in {}", self.log())).await;
    }

    async fn code(mut self) -> (Option<i32>, String) {
        let code = until(|| self.child.try_wait().unwrap(), || "the exporter's end".to_owned()).await.code();
        assert_eq!(std::fs::read_dir(self.folder.path().join("tmp")).unwrap().count(), 0, "files stayed");
        assert!(!self.socket().exists(), "its socket stayed");
        (code, self.log())
    }

    /// A figure of the process: `fd` and `children` are counted, `VmRSS` is in KiB.
    fn usage(&self, what: &str) -> usize {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        match what {
            "fd" => std::fs::read_dir(process.join("fd")).unwrap().count(),
            "children" => {
                let tasks = std::fs::read_dir(process.join("task")).unwrap().flatten();
                let children = tasks.map(|task| std::fs::read_to_string(task.path().join("children")));
                children.flatten().map(|list| list.split_whitespace().count()).sum()
            }
            "files" => std::fs::read_dir(self.folder.path().join("tmp")).unwrap().count(),
            name => {
                let status = std::fs::read_to_string(process.join("status")).unwrap();
                let line = status.lines().find(|line| line.starts_with(name)).unwrap();
                line.split_whitespace().nth(1).unwrap().parse().unwrap()
            }
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

async fn until<T>(mut condition: impl FnMut() -> Option<T>, what: impl Fn() -> String) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "waited in vain for {}", what());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn status(client: &mut Client) -> GetStatusResponse {
    client.exporter.get_status(GetStatusRequest {}).await.unwrap().into_inner()
}

/// Asks as clients do, until the exporter is in that state.
async fn until_status(client: &mut Client, wanted: ExporterStatus) -> GetStatusResponse {
    let start = Instant::now();
    loop {
        let found = status(client).await;
        if found.status() == wanted {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "{found:?} instead of {wanted:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A hook that says that it runs, and goes on once a file is there.
fn waiting_hook(folder: &Path) -> String {
    let (go, done) = (folder.join("go"), folder.join("done"));
    let script = format!(
        "echo begun; while [ ! -e {} ]; do sleep 0.02; done; echo over > {}",
        go.display(),
        done.display()
    );
    format!("{EXPORT}hooks:\n  afterLease: {{script: '{script}'}}\n")
}

#[tokio::test]
async fn a_hook_that_runs_ends_before_the_exporter() {
    let exporter = Exporter::start(waiting_hook);
    let mut client = connect(&exporter.socket()).await;
    until_status(&mut client, ExporterStatus::LeaseReady).await;
    exporter.signal(Signal::TERM);
    until_status(&mut client, ExporterStatus::AfterLeaseHook).await;
    exporter.until_logged("begun").await;
    let connects = || std::os::unix::net::UnixStream::connect(exporter.socket()).is_err().then_some(());
    until(connects, || "the end of the listener".to_owned()).await;
    assert_eq!(status(&mut client).await.status(), ExporterStatus::AfterLeaseHook, "who is there can follow");
    std::fs::write(exporter.folder.path().join("go"), "").unwrap();
    let done = exporter.folder.path().join("done");
    until(|| done.exists().then_some(()), || "the hook's end".to_owned()).await;
    let (code, log) = exporter.code().await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test]
async fn a_second_signal_ends_the_hook_and_cuts_the_calls_off() {
    let exporter = Exporter::start(waiting_hook);
    let mut client = connect(&exporter.socket()).await;
    // A stream that would take the whole grace.
    let stream = client.connect("echo").await;
    while let Ok(sent) =
        tokio::time::timeout(Duration::from_secs(1), stream.sender.send(frame(vec![0; 1 << 16]))).await
    {
        sent.unwrap();
    }
    exporter.signal(Signal::INT);
    exporter.until_logged("begun").await;
    exporter.signal(Signal::TERM);
    let (code, log) = exporter.code().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("hurrying: the afterLease hook is ended"), "{log}");
    assert!(!log.contains("did not end in time"), "it waited for calls: {log}");
    drop((client, stream));
}

#[tokio::test]
async fn every_ending_signal_ends_in_order() {
    for signal in [Signal::QUIT, Signal::INT, Signal::TERM] {
        let exporter = Exporter::start(|folder| {
            format!(
                "{EXPORT}hooks:\n  afterLease: {{script: 'echo over > {}'}}\n",
                folder.join("done").display()
            )
        });
        let done = exporter.folder.path().join("done");
        exporter.signal(signal);
        until(|| done.exists().then_some(()), || "the hook".to_owned()).await;
        let (code, log) = exporter.code().await;
        assert_eq!(code, Some(0), "{signal:?}: {log}");
    }
}

#[tokio::test]
async fn a_hook_that_ends_the_exporter_is_seen_to_fail() {
    let exporter = Exporter::start(|_| {
        format!("{EXPORT}hooks:\n  beforeLease: {{script: 'sleep 0.3; exit 3', onFailure: exit}}\n")
    });
    let mut client = connect(&exporter.socket()).await;
    let failed = until_status(&mut client, ExporterStatus::BeforeLeaseHookFailed).await;
    let message = failed.message();
    assert!(message.starts_with("beforeLease hook failed (on_failure=exit, shutting down): "), "{message}");
    drop(client);
    let (code, log) = exporter.code().await;
    assert_eq!(code, Some(1), "{log}");
}

#[tokio::test]
async fn a_lease_that_could_not_begin_is_tried_again_when_a_client_ends_its_session() {
    let exporter = Exporter::start(|folder| {
        let mark = folder.join("mark");
        let before = format!("echo preparing; [ -e {} ] || exit 3", mark.display());
        format!(
            "{EXPORT}hooks:\n  beforeLease: {{script: '{before}', onFailure: endLease}}\n  \
             afterLease: {{script: 'echo tidied; exit 3', onFailure: endLease}}\n"
        )
    });
    let mut client = connect(&exporter.socket()).await;
    let failed = until_status(&mut client, ExporterStatus::BeforeLeaseHookFailed).await;
    let message = failed.message();
    assert!(message.starts_with("beforeLease hook failed (on_failure=endLease): "), "{message}");
    assert!(message.contains("exit code 3") || message.contains("exit status: 3"), "{message}");
    let refused = client.call("power", "on", &[]).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    std::fs::write(exporter.folder.path().join("mark"), "").unwrap();
    assert!(client.exporter.end_session(EndSessionRequest {}).await.unwrap().into_inner().success);
    until_status(&mut client, ExporterStatus::Available).await;
    let next = until_status(&mut client, ExporterStatus::LeaseReady).await;
    assert!(next.status_version > failed.status_version, "{next:?}");
    client.call("power", "on", &[]).await.unwrap();
    drop(client);
    assert!(!exporter.log().contains("tidied"));
    exporter.signal(Signal::TERM);
    // The hook after fails, which is said and keeps nothing open.
    let (code, log) = exporter.code().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("tidied") && log.contains("the afterLease hook failed"), "{log}");
}

#[tokio::test]
async fn the_end_of_a_session_runs_no_hook_and_forgets_its_log() {
    let exporter = Exporter::start(|_| {
        format!(
            "{EXPORT}hooks:\n  beforeLease: {{script: 'echo prepared'}}\n  afterLease: {{script: 'echo tidied'}}\n"
        )
    });
    let mut client = connect(&exporter.socket()).await;
    until_status(&mut client, ExporterStatus::LeaseReady).await;
    client.call("power", "on", &[]).await.unwrap();
    assert!(client.exporter.end_session(EndSessionRequest {}).await.unwrap().into_inner().success);
    until_status(&mut client, ExporterStatus::Available).await;
    client.call("power", "off", &[]).await.unwrap();
    until_status(&mut client, ExporterStatus::LeaseReady).await;
    drop(client);
    let mut next = connect(&exporter.socket()).await;
    let mut log = next.exporter.log_stream(()).await.unwrap().into_inner();
    let mut heard = Vec::new();
    while heard.last().is_none_or(|line| line != "power off") {
        let record = tokio::time::timeout(DEADLINE, log.message()).await.unwrap().unwrap().unwrap();
        heard.push(record.message);
    }
    assert!(!heard.iter().any(|line| line == "power on" || line == "prepared"), "{heard:?}");
    drop((next, log));
    let count = |text: &str| exporter.log().matches(text).count();
    assert_eq!((count("prepared"), count("tidied")), (1, 0), "{}", exporter.log());
    exporter.signal(Signal::TERM);
    let (code, log) = exporter.code().await;
    assert_eq!((code, log.matches("tidied").count()), (Some(0), 1), "{log}");
}

/// Between the exporter's start and a hook's end only the hook uses the device, whatever a client tries.
#[tokio::test]
async fn while_a_hook_runs_only_the_hook_uses_the_device() {
    let exporter = Exporter::start(|folder| {
        let script = |name: &str| {
            let go = folder.join(name);
            format!("echo {name} runs; while [ ! -e {} ]; do sleep 0.02; done", go.display())
        };
        let (before, after) = (script("before"), script("after"));
        format!(
            "{EXPORT}hooks:\n  beforeLease: {{script: '{before}'}}\n  afterLease: {{script: '{after}'}}\n"
        )
    });
    let mut client = connect(&exporter.socket()).await;
    let (power, echo) = (client.uuid("power"), client.uuid("echo"));
    let read = StreamingDriverCallRequest { uuid: power, method: "read".to_owned(), args: Vec::new() };
    let stream = |kind: &str| serde_json::json!({"kind": kind, "uuid": echo, "method": "connect"});
    for (hook, name, running) in [
        ("before", "beforeLease", ExporterStatus::BeforeLeaseHook),
        ("after", "afterLease", ExporterStatus::AfterLeaseHook),
    ] {
        exporter.until_logged(&format!("{hook} runs")).await;
        let mut answers = vec![
            client.call("power", "on", &[]).await.map(drop),
            client.exporter.streaming_driver_call(read.clone()).await.map(drop),
            client.exporter.reset(ResetRequest {}).await.map(drop),
            client.open(&stream("driver").to_string()).await.map(drop),
            client.open(&stream("resource").to_string()).await.map(drop),
        ];
        for answer in answers.drain(..) {
            let refused = answer.unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
            assert!(refused.message().contains(&format!("the {name} hook is running")), "{refused:?}");
        }
        let ended = client.exporter.end_session(EndSessionRequest {}).await.unwrap().into_inner();
        assert!(!ended.success && ended.message().contains(name), "{ended:?}");
        assert_eq!(status(&mut client).await.status(), running, "nothing has ended it");
        client.exporter.get_report(()).await.unwrap();
        // What a hook prints is followed from its beginning.
        let mut log = client.exporter.log_stream(()).await.unwrap().into_inner();
        let heard =
            async { while log.message().await.unwrap().unwrap().message != format!("{hook} runs") {} };
        tokio::time::timeout(DEADLINE, heard).await.unwrap();
        std::fs::write(exporter.folder.path().join(hook), "").unwrap();
        if hook == "before" {
            until_status(&mut client, ExporterStatus::LeaseReady).await;
            client.call("power", "on", &[]).await.unwrap();
            exporter.signal(Signal::TERM);
        }
    }
    drop(client);
    let (code, log) = exporter.code().await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test]
async fn a_client_ends_the_session_only_when_it_is_alone() {
    let exporter = Exporter::start(|_| EXPORT.to_owned());
    let mut client = connect(&exporter.socket()).await;
    let mut other = connect(&exporter.socket()).await;
    // A connection without a call is no client.
    let _stranger = transport(&exporter.socket()).await;
    let before = status(&mut other).await;
    for _ in 0..2 {
        let refused = client.exporter.end_session(EndSessionRequest {}).await.unwrap().into_inner();
        assert!(!refused.success);
        assert_eq!(refused.message(), "another client is connected (1): the session goes on");
    }
    assert_eq!(status(&mut other).await, before);
    other.call("power", "on", &[]).await.unwrap();
    drop(other);
    let ended = client.exporter.end_session(EndSessionRequest {}).await.unwrap().into_inner();
    assert!(ended.success, "{ended:?}");
    let seen = until_status(&mut client, ExporterStatus::Available).await;
    assert_eq!(seen.message(), "Available for new lease");
    client.call("power", "on", &[]).await.unwrap();
    let next = until_status(&mut client, ExporterStatus::LeaseReady).await;
    assert_eq!(next.status_version, 2, "one lease ended, not two");
    drop(client);
    exporter.signal(Signal::TERM);
    assert_eq!(exporter.code().await.0, Some(0));
}

#[tokio::test]
async fn hooks_by_any_interpreter_are_heard() {
    let exporter = Exporter::start(|folder| {
        let script = folder.join("before.py");
        std::fs::write(&script, "import os\nprint('from a file,', os.environ['LEASE_NAME'])\n").unwrap();
        let after = r#"import sys; print("inline"); print("on stderr", file=sys.stderr); sys.exit(4)"#;
        format!(
            "{EXPORT}hooks:\n  beforeLease: {{script: '{}'}}\n  afterLease: {{script: '{after}', exec: python3}}\n",
            script.display()
        )
    });
    let mut client = connect(&exporter.socket()).await;
    until_status(&mut client, ExporterStatus::LeaseReady).await;
    let mut log = client.exporter.log_stream(()).await.unwrap().into_inner();
    exporter.signal(Signal::TERM);
    let mut expected = vec![
        (LogSource::AfterLeaseHook, "inline"),
        (LogSource::AfterLeaseHook, "on stderr"),
        (LogSource::AfterLeaseHook, "a hook failed"),
        (LogSource::BeforeLeaseHook, "from a file, standalone"),
    ];
    while !expected.is_empty() {
        let record = tokio::time::timeout(DEADLINE, log.message()).await.unwrap().unwrap();
        let record =
            record.unwrap_or_else(|| panic!("the log ended without {expected:?}: {}", exporter.log()));
        expected.retain(|(source, words)| record.source() != *source || !record.message.starts_with(words));
    }
    drop((client, log));
    assert_eq!(exporter.code().await.0, Some(0));
}

/// Cleaners of the temporary folder remove a socket, or its folder, from under a running exporter.
#[tokio::test]
async fn the_hook_after_reaches_an_exporter_whose_socket_was_removed() {
    let removals: [fn(&Path); 3] = [
        |_| {},
        |socket| std::fs::remove_file(socket).unwrap(),
        |socket| std::fs::remove_dir_all(socket.parent().unwrap()).unwrap(),
    ];
    for remove in removals {
        let exporter = Exporter::start(|folder| {
            let told = folder.join("told").display().to_string();
            let before = format!("printf %s \"$JUMPSTARTER_HOST\" > {told}");
            let after = r#"import os, socket; socket.socket(socket.AF_UNIX).connect(os.environ["JUMPSTARTER_HOST"]); print("reached")"#;
            format!(
                "{EXPORT}hooks:\n  beforeLease: {{script: '{before}'}}\n  afterLease: {{script: '{after}', exec: python3}}\n"
            )
        });
        let mut client = connect(&exporter.socket()).await;
        until_status(&mut client, ExporterStatus::LeaseReady).await;
        drop(client);
        let socket = std::fs::read_to_string(exporter.folder.path().join("told")).unwrap();
        remove(Path::new(&socket));
        exporter.signal(Signal::TERM);
        let (code, log) = exporter.code().await;
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("reached"), "{log}");
    }
}

#[tokio::test]
async fn a_hook_that_takes_too_long_is_told_of() {
    let exporter = Exporter::start(|_| {
        format!("{EXPORT}hooks:\n  beforeLease: {{script: 'echo working; exec sleep 1000', timeout: 1}}\n")
    });
    let mut client = connect(&exporter.socket()).await;
    let mut log = client.exporter.log_stream(()).await.unwrap().into_inner();
    let mut heard = Vec::new();
    while !heard.iter().any(|line: &String| line.contains("did not end within 1 s")) {
        let record = tokio::time::timeout(DEADLINE, log.message()).await.unwrap().unwrap().unwrap();
        if record.source() == LogSource::BeforeLeaseHook {
            heard.push(record.message);
        }
    }
    assert_eq!(heard.first().map(String::as_str), Some("working"));
    let seen = until_status(&mut client, ExporterStatus::LeaseReady).await;
    let message = seen.message();
    assert!(message.starts_with("[HOOK_WARNING] beforeLease hook warning: "), "{message}");
    drop((client, log));
    exporter.signal(Signal::TERM);
    assert_eq!(exporter.code().await.0, Some(0));
}

#[tokio::test]
async fn the_hook_before_adds_to_the_motd() {
    let exporter = Exporter::start(|_| {
        let script = r#"printf "image v1\\n\\n" > "$JMP_MOTD_FILE""#;
        let after = r#"echo "motd file: ${JMP_MOTD_FILE-none}""#;
        format!(
            "motd: Mind the relay.\n{EXPORT}hooks:\n  beforeLease: {{script: '{script}'}}\n  \
             afterLease: {{script: '{after}'}}\n"
        )
    });
    let mut client = connect(&exporter.socket()).await;
    until_status(&mut client, ExporterStatus::LeaseReady).await;
    let report = client.exporter.get_report(()).await.unwrap().into_inner();
    assert_eq!(report.motd, "Mind the relay.\nimage v1");
    drop(client);
    exporter.signal(Signal::TERM);
    let (code, log) = exporter.code().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("motd file: none"), "{log}");
}

/// A pipe without a writer would hold up whoever opens it, and a large file whoever reads it.
#[tokio::test]
async fn a_strange_motd_holds_nothing_up() {
    for (script, expected) in [
        (r#"mkfifo "$JMP_MOTD_FILE""#, 0..=0),
        (r#"mkdir "$JMP_MOTD_FILE""#, 0..=0),
        (r#"head -c 10000000 /dev/zero | tr "\\0" x > "$JMP_MOTD_FILE""#, 65_000..=65_600),
    ] {
        let exporter =
            Exporter::start(|_| format!("{EXPORT}hooks:\n  beforeLease: {{script: '{script}'}}\n"));
        let mut client = connect(&exporter.socket()).await;
        until_status(&mut client, ExporterStatus::LeaseReady).await;
        let report = client.exporter.get_report(()).await.unwrap().into_inner();
        assert!(expected.contains(&report.motd.len()), "{script}: {}", report.motd.len());
        drop(client);
        exporter.signal(Signal::TERM);
        assert_eq!(exporter.code().await.0, Some(0));
    }
}

#[tokio::test]
async fn hang_up_has_the_file_read_anew_once_the_device_is_free() {
    let exporter = Exporter::start(|_| {
        format!(
            "{EXPORT}hooks:\n  beforeLease: {{script: 'echo first'}}\n  afterLease: {{script: 'echo tidied'}}\n"
        )
    });
    let file = exporter.folder.path().join("exporter.yaml");
    let mut client = connect(&exporter.socket()).await;
    until_status(&mut client, ExporterStatus::LeaseReady).await;
    // One with faults changes nothing.
    std::fs::write(&file, "export: {power: {type: no-such-driver}}\n").unwrap();
    exporter.signal(Signal::HUP);
    exporter.until_logged("read anew once no client is connected").await;
    client.call("power", "on", &[]).await.unwrap();
    drop(client);
    exporter.until_logged("what it said before goes on").await;
    assert!(!exporter.log().contains("tidied"), "{}", exporter.log());
    let text = "export: {relay: {type: mock-power}}\nhooks:\n  beforeLease: {script: 'echo second'}\n";
    std::fs::write(&file, text).unwrap();
    exporter.signal(Signal::HUP);
    exporter.until_logged("second").await;
    let log = exporter.log();
    let at = |words: &str| log.find(words).unwrap_or_else(|| panic!("no {words}: {log}"));
    assert!(at("first") < at("tidied") && at("tidied") < at("second"), "{log}");
    let mut client = connect(&exporter.socket()).await;
    until_status(&mut client, ExporterStatus::LeaseReady).await;
    client.call("relay", "on", &[]).await.unwrap();
    drop(client);
    exporter.signal(Signal::TERM);
    assert_eq!(exporter.code().await.0, Some(0));
}

#[tokio::test]
async fn hang_up_waits_for_the_hook_before() {
    let exporter = Exporter::start(|folder| {
        let go = folder.join("go");
        let script = format!("echo begun; while [ ! -e {} ]; do sleep 0.02; done; echo over", go.display());
        format!("{EXPORT}hooks:\n  beforeLease: {{script: '{script}'}}\n")
    });
    exporter.until_logged("begun").await;
    std::fs::write(exporter.folder.path().join("exporter.yaml"), EXPORT).unwrap();
    exporter.signal(Signal::HUP);
    exporter.until_logged("read anew once no client is connected").await;
    std::fs::write(exporter.folder.path().join("go"), "").unwrap();
    exporter.until_logged("serving what the exporter file says now").await;
    let mut client = connect(&exporter.socket()).await;
    until_status(&mut client, ExporterStatus::LeaseReady).await;
    assert!(exporter.log().contains(" over\n"), "the hook was not ended: {}", exporter.log());
    drop(client);
    exporter.signal(Signal::TERM);
    assert_eq!(exporter.code().await.0, Some(0));
}

#[tokio::test]
async fn a_signal_ends_an_exporter_that_waits_to_read_its_file() {
    let exporter = Exporter::start(|_| EXPORT.to_owned());
    let mut client = connect(&exporter.socket()).await;
    client.call("power", "on", &[]).await.unwrap();
    exporter.signal(Signal::HUP);
    exporter.until_logged("read anew once no client is connected").await;
    exporter.signal(Signal::TERM);
    assert_eq!(exporter.code().await.0, Some(0));
    drop(client);
}

/// As under `nohup`, and in the background of a shell without job control.
#[tokio::test]
async fn signals_that_were_ignored_at_the_start_stay_ignored() {
    let exporter = Exporter::start_by(|_| EXPORT.to_owned(), "trap '' HUP INT QUIT; exec \"$@\"");
    let mut client = connect(&exporter.socket()).await;
    for signal in [Signal::HUP, Signal::INT, Signal::QUIT] {
        exporter.signal(signal);
    }
    client.call("power", "on", &[]).await.unwrap();
    let ignored = std::fs::read_to_string(format!("/proc/{}/status", exporter.child.id())).unwrap();
    let mask = ignored.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
    assert_eq!(u64::from_str_radix(mask, 16).unwrap() & 0b111, 0b111, "HUP, INT and QUIT: {mask}");
    assert!(
        !exporter.log().contains("shutting down") && !exporter.log().contains("anew"),
        "{}",
        exporter.log()
    );
    drop(client);
    exporter.signal(Signal::TERM);
    assert_eq!(exporter.code().await.0, Some(0));
}

#[tokio::test]
async fn a_device_is_reset_before_it_is_served() {
    let exporter = Exporter::start_by(
        |folder| {
            let resets = folder.join("resets");
            format!("export:\n  probe: {{type: reset-probe, config: {{file: {}}}}}\n", resets.display())
        },
        "exec \"$@\"",
    );
    let resets = std::fs::read_to_string(exporter.folder.path().join("resets")).unwrap();
    assert_eq!(resets, "reset\n", "once, before it listened");
    let mut client = connect(&exporter.socket()).await;
    client.exporter.end_session(EndSessionRequest {}).await.unwrap();
    until_status(&mut client, ExporterStatus::LeaseReady).await;
    drop(client);
    exporter.signal(Signal::TERM);
    let folder = exporter.folder.path().to_owned();
    let resets = async || std::fs::read_to_string(folder.join("resets")).unwrap();
    assert_eq!(resets().await, "reset\n");
    assert_eq!(exporter.code().await.0, Some(0));
}

/// Starts a client that is in the middle of something, and kills it there.
fn kill_in_the_middle(exporter: &Exporter, what: &str) {
    let mut command = example("load");
    command.arg(exporter.socket()).args(["hold", what]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut client = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(client.stdout.take().unwrap()).read_line(&mut line).unwrap();
    client.kill().unwrap();
    client.wait().unwrap();
    assert_eq!(line, "0.0\n", "the client did not get into the middle of {what}: {}", exporter.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_clients_leave_nothing() {
    let exporter = Exporter::start(|folder| {
        let image = folder.join("card.img");
        std::fs::write(&image, vec![0xa5; 32 << 20]).unwrap();
        format!("{EXPORT}  flasher: {{type: file-flasher, config: {{path: {}}}}}\n", image.display())
    });
    let kinds = ["echo", "console", "flash", "dump"];
    let round = |count: usize| {
        for number in 0..count {
            tokio::task::block_in_place(|| kill_in_the_middle(&exporter, kinds[number % kinds.len()]));
        }
    };
    round(20);
    let settled = |what: &'static str, limit: usize| {
        let exporter = &exporter;
        until(
            move || Some(exporter.usage(what)).filter(|found| *found <= limit),
            move || format!("{what} at {limit} or less: {}", exporter.usage(what)),
        )
    };
    settled("children", 0).await;
    let before = ["fd", "VmRSS", "files"].map(|what| exporter.usage(what));
    round(100);
    settled("children", 0).await;
    settled("fd", before[0]).await;
    settled("files", before[2]).await;
    settled("VmRSS", before[1] + 8 * 1024).await;
    let mut folder: Vec<_> =
        std::fs::read_dir(exporter.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    folder.sort();
    assert_eq!(folder, ["card.img", "exporter.yaml", "log", "socket", "tmp"]);
    assert!(std::fs::read(exporter.folder.path().join("card.img")).unwrap().iter().all(|byte| *byte == 0xa5));
    let mut client = connect(&exporter.socket()).await;
    client.call("power", "on", &[]).await.unwrap();
    drop(client);
    exporter.signal(Signal::TERM);
    assert_eq!(exporter.code().await.0, Some(0));
}

#[tokio::test]
async fn slow_readers_cost_no_memory() {
    let exporter = Exporter::start(|_| EXPORT.to_owned());
    let mut client = connect(&exporter.socket()).await;
    let before = exporter.usage("VmRSS");
    let mut streams = Vec::new();
    for _ in 0..4 {
        let stream = client.connect("echo").await;
        let chunk = bytes::Bytes::from(vec![1; 1 << 16]);
        let send = || tokio::time::timeout(Duration::from_secs(1), stream.sender.send(frame(chunk.clone())));
        let mut sent = 0;
        while send().await.is_ok() {
            sent += chunk.len();
            assert!(sent < 64 << 20, "{sent} bytes went nowhere");
        }
        streams.push(stream);
    }
    let grown = exporter.usage("VmRSS").saturating_sub(before);
    assert!(grown < 32 * 1024, "four streams that nobody reads take {grown} KiB");
    drop((client, streams));
    exporter.signal(Signal::TERM);
    assert_eq!(exporter.code().await.0, Some(0));
}
