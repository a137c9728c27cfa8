//! How an exporter ends, and what stays of clients that are killed: real processes, real signals.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jumpstarter_protocol::v1::{
    EndSessionRequest, ExporterStatus, GetStatusRequest, GetStatusResponse, LogSource,
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

/// A running exporter, in a folder of its own, which is also where its temporary files are.
struct Exporter {
    child: Child,
    folder: tempfile::TempDir,
}

impl Exporter {
    fn start(config: impl FnOnce(&Path) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tmp")).unwrap();
        let file = folder.path().join("exporter.yaml");
        std::fs::write(&file, config(folder.path())).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = example("serve");
        command.arg(&file).arg(folder.path().join("socket")).stdin(Stdio::null());
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
    assert!(client.exporter.end_session(EndSessionRequest {}).await.unwrap().into_inner().success);
    until_status(&mut client, ExporterStatus::AfterLeaseHook).await;
    exporter.until_logged("begun").await;
    exporter.signal(Signal::TERM);
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
    for signal in [Signal::HUP, Signal::QUIT, Signal::INT, Signal::TERM] {
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
async fn a_lease_whose_end_failed_is_seen_and_the_next_one_begins() {
    let exporter = Exporter::start(|_| {
        format!(
            "{EXPORT}hooks:\n  beforeLease: {{script: 'echo prepared'}}\n  \
             afterLease: {{script: 'echo tidied; exit 3', onFailure: endLease}}\n"
        )
    });
    let mut client = connect(&exporter.socket()).await;
    until_status(&mut client, ExporterStatus::LeaseReady).await;
    let mut log = client.exporter.log_stream(()).await.unwrap().into_inner();
    for _ in 0..2 {
        client.exporter.end_session(EndSessionRequest {}).await.unwrap();
        let failed = until_status(&mut client, ExporterStatus::AfterLeaseHookFailed).await;
        let message = failed.message();
        assert!(message.starts_with("afterLease hook failed (on_failure=endLease): "), "{message}");
        assert!(message.contains("exit code 3") || message.contains("exit status: 3"), "{message}");
        let refused = client.call("power", "on", &[]).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        let next = until_status(&mut client, ExporterStatus::LeaseReady).await;
        assert!(next.status_version > failed.status_version, "{next:?}");
        client.call("power", "on", &[]).await.unwrap();
        // The next lease was prepared as the first one was.
        let mut heard = Vec::new();
        while heard.last().is_none_or(|line: &String| line != "prepared") {
            let record = tokio::time::timeout(DEADLINE, log.message()).await.unwrap().unwrap().unwrap();
            heard.push(record.message);
        }
        assert!(heard.contains(&"tidied".to_owned()), "{heard:?}");
    }
    drop((client, log));
    exporter.signal(Signal::TERM);
    // Its hook fails once more, which is said and keeps nothing open.
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
    client.exporter.end_session(EndSessionRequest {}).await.unwrap();
    let mut expected = vec![
        (LogSource::AfterLeaseHook, "inline"),
        (LogSource::AfterLeaseHook, "on stderr"),
        (LogSource::AfterLeaseHook, "a hook failed"),
        (LogSource::BeforeLeaseHook, "from a file, standalone"),
    ];
    while !expected.is_empty() {
        let record = tokio::time::timeout(DEADLINE, log.message()).await.unwrap().unwrap().unwrap();
        expected.retain(|(source, words)| record.source() != *source || !record.message.starts_with(words));
    }
    drop((client, log));
    exporter.signal(Signal::TERM);
    assert_eq!(exporter.code().await.0, Some(0));
}

#[tokio::test]
async fn a_hook_that_takes_too_long_is_told_of() {
    let exporter = Exporter::start(|_| {
        format!("{EXPORT}hooks:\n  afterLease: {{script: 'echo working; exec sleep 1000', timeout: 1}}\n")
    });
    let mut client = connect(&exporter.socket()).await;
    let mut log = client.exporter.log_stream(()).await.unwrap().into_inner();
    client.exporter.end_session(EndSessionRequest {}).await.unwrap();
    let mut heard = Vec::new();
    while !heard.iter().any(|line: &String| line.contains("did not end within 1 s")) {
        let record = tokio::time::timeout(DEADLINE, log.message()).await.unwrap().unwrap().unwrap();
        if record.source() == LogSource::AfterLeaseHook {
            heard.push(record.message);
        }
    }
    assert_eq!(heard.first().map(String::as_str), Some("working"));
    let seen = until_status(&mut client, ExporterStatus::Available).await;
    let message = seen.message();
    assert!(message.starts_with("[HOOK_WARNING] afterLease hook warning: "), "{message}");
    drop((client, log));
    exporter.signal(Signal::TERM);
    // Its hook runs once more, and takes too long once more.
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
