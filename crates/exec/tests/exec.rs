//! The program itself: its protocol, frame by frame, and whose life ends with whose.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "the helpers of tests are no tests to clippy")]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use jumpstarter_driver_testkit::eventually;
use jumpstarter_driver_testkit::processes::{descendants, find};
use jumpstarter_supervise::{
    Child, Command, ExitStatus, Input, Launcher, Signal, Sink, StopPlan, SuperviseError, run,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(60);
const BINARY: &str = env!("CARGO_BIN_EXE_jumpstarter-exec");

/// `jumpstarter-exec serve`.
struct Server {
    child: Child,
    folder: tempfile::TempDir,
}

impl Server {
    async fn start(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("launcher.sock");
        let command = Command::new(BINARY).args(["serve", "--socket"]).arg(&socket).args(options);
        let child = command.stderr(Sink::Tail(1 << 20)).spawn().await.unwrap();
        let server = Self { child, folder };
        eventually("the server listens", || server.log().contains("listening")).await;
        server
    }

    fn socket(&self) -> PathBuf {
        self.file("launcher.sock")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn launcher(&self) -> Launcher {
        Launcher::new(self.socket())
    }

    fn log(&self) -> String {
        self.child.stderr_tail()
    }

    async fn connect(&self) -> Client {
        Client(BufReader::new(UnixStream::connect(self.socket()).await.unwrap()))
    }

    /// A client whose program, a shell, runs this script, and has written its pid to the file
    /// `pid` first.
    async fn shell(&self, script: &str) -> Client {
        let mut client = self.connect().await;
        let script = format!("echo $$ > {}; {script}", self.file("pid").display());
        let argv = serde_json::to_string(&["sh", "-c", &script]).unwrap();
        client.send(&format!(r#"{{"type":"Exec","argv":{argv}}}"#)).await;
        client.started().await;
        eventually("the script runs", || self.pid("pid").is_some()).await;
        client
    }

    fn pid(&self, file: &str) -> Option<u32> {
        std::fs::read_to_string(self.file(file)).ok()?.trim().parse().ok()
    }

    /// Waits until the process whose id is in a file has ended.
    async fn ended(&self, file: &str) {
        let pid = self.pid(file).unwrap();
        eventually("its program has ended", || find(pid).is_none()).await;
    }

    async fn no_process_is_left(&self) {
        let server = self.child.pid();
        eventually("no process is left, no zombie either", || descendants(server).is_empty()).await;
    }
}

/// A connection, on which a test writes and reads lines itself.
struct Client(BufReader<UnixStream>);

impl Client {
    async fn send(&mut self, line: &str) {
        self.0.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// The next line; empty at the end.
    async fn line(&mut self) -> String {
        let mut line = String::new();
        timeout(LONG, self.0.read_line(&mut line)).await.unwrap().unwrap();
        line.trim_end().to_owned()
    }

    async fn started(&mut self) -> u32 {
        let line = self.line().await;
        let pid = line.strip_prefix(r#"{"type":"Started","pid":"#).expect(&line);
        pid.strip_suffix('}').unwrap().parse().unwrap()
    }

    /// The remaining lines, to the connection's end.
    async fn rest(&mut self) -> Vec<String> {
        let mut text = String::new();
        timeout(LONG, self.0.read_to_string(&mut text)).await.unwrap().unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

fn sh(script: &str) -> Command {
    Command::new("sh").args(["-c", script])
}

#[tokio::test]
async fn a_program_is_started_fed_and_reported() {
    let server = Server::start(&[]).await;
    let mut client = server.connect().await;
    let script = r#"read line; echo $line $VAR; pwd >&2; exit 7"#;
    client
        .send(&format!(
            r#"{{"type":"Exec","argv":["sh","-c","{script}"],"env":[["VAR","v"]],"cwd":"/"}}"#
        ))
        .await;
    let pid = client.started().await;
    // It has its name a moment after its start.
    eventually("it runs", || find(pid).is_some_and(|process| process.name == "sh")).await;
    client.send("not a message").await;
    client.send(r#"{"type":"Stdin","data":"aGkK"}"#).await;
    client.send(r#"{"type":"StdinClose"}"#).await;
    let mut rest = client.rest().await;
    assert_eq!(rest.pop().unwrap(), r#"{"type":"Exit","code":7}"#);
    rest.sort();
    let expected = [r#"{"type":"Stderr","data":"Lwo="}"#, r#"{"type":"Stdout","data":"aGkgdgo="}"#];
    assert_eq!(rest, expected);
    server.no_process_is_left().await;
}

#[tokio::test]
async fn a_signal_reaches_the_program() {
    let server = Server::start(&[]).await;
    let mut client = server.shell("exec sleep 1000").await;
    client.send(r#"{"type":"Signal","signal":15}"#).await;
    assert_eq!(client.rest().await, [r#"{"type":"Exit","code":null}"#]);
}

#[tokio::test]
async fn what_cannot_be_done_is_an_error() {
    let server = Server::start(&[]).await;
    for (request, expected) in [
        (
            r#"{"type":"Exec","argv":["/nowhere/qemu"]}"#,
            "spawn failed: No such file or directory (os error 2)",
        ),
        (
            r#"{"type":"Exec","argv":["/etc/passwd"]}"#,
            "spawn failed: Permission denied (os error 13)",
        ),
        (
            r#"{"type":"Exec","argv":["sh"],"cwd":"/nowhere"}"#,
            "spawn failed: No such file or directory (os error 2)",
        ),
        (r#"{"type":"Exec","argv":[]}"#, "empty argv"),
        (r#"{"type":"StdinClose"}"#, "first message must be Exec or Shutdown"),
    ] {
        let mut client = server.connect().await;
        client.send(request).await;
        let expected = format!(r#"{{"type":"Error","message":"{expected}"}}"#);
        assert_eq!(client.rest().await, [expected], "{request}");
    }
    let mut client = server.connect().await;
    client.send("{").await;
    assert!(client.rest().await[0].contains("invalid message"));
    // A line without an end fills no memory.
    let mut client = server.connect().await;
    let flood = vec![b'x'; 5 << 20];
    timeout(LONG, client.0.write_all(&flood)).await.unwrap().ok();
    drop(client);
    assert!(run(sh("echo lives").through(server.launcher()), LONG).await.is_ok());
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_program_and_all_below_it() {
    let server = Server::start(&[]).await;
    let (heard, below) = (server.file("heard"), server.file("below"));
    let script = format!(
        "trap 'echo > {}' TERM; setsid sh -c 'echo $$ > {}; exec sleep 1000' & while :; do sleep 0.1; done",
        heard.display(),
        below.display()
    );
    let client = server.shell(&script).await;
    eventually("its child runs", || server.pid("below").is_some()).await;
    drop(client);
    eventually("the program got SIGTERM", || heard.exists()).await;
    // It did not end: it is killed, and so is what left its session.
    server.ended("pid").await;
    server.ended("below").await;
    server.no_process_is_left().await;
    eventually("the log says why", || server.log().contains("client disconnected")).await;
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_although_its_program_reads_nothing() {
    let server = Server::start(&[]).await;
    let mut client = server.shell("exec sleep 1000").await;
    let line = format!("{{\"type\":\"Stdin\",\"data\":\"{}\"}}\n", "AAAA".repeat(4096));
    // More than the pipe and the socket hold.
    let flood = async { while client.0.write_all(line.as_bytes()).await.is_ok() {} };
    assert!(timeout(Duration::from_millis(500), flood).await.is_err());
    drop(client);
    server.ended("pid").await;
}

#[tokio::test]
async fn what_a_program_left_lives_as_long_as_the_server() {
    let server = Server::start(&[]).await;
    let below = server.file("below");
    // As a service: it keeps no stream of its starter open.
    let script =
        format!("setsid sh -c 'echo $$ > {}; exec sleep 1000' <&- >&- 2>&- &", below.display());
    let mut client = server.shell(&script).await;
    assert_eq!(client.rest().await, [r#"{"type":"Exit","code":0}"#]);
    eventually("its child runs", || server.pid("below").is_some()).await;
    assert_eq!(server.launcher().shut_down(LONG).unwrap(), 0);
    assert_eq!(server.child.wait().await, ExitStatus::Code(0));
    server.ended("below").await;
}

#[tokio::test]
async fn nothing_survives_a_killed_server() {
    let server = Server::start(&[]).await;
    let mut client = server.shell("sleep 1000 & wait").await;
    server.child.signal(Signal::KILL);
    assert_eq!(client.rest().await, Vec::<String>::new());
    server.ended("pid").await;
    // Its socket stays, and the next server takes it.
    let next = Command::new(BINARY).args(["serve", "--socket"]).arg(server.socket());
    let next = next.spawn().await.unwrap();
    eventually("the next server listens", || next.stderr_tail().contains("listening")).await;
    assert!(run(sh("true").through(server.launcher()), LONG).await.is_ok());
}

#[tokio::test]
async fn shutdown_ends_programs_and_removes_the_socket() {
    let server = Server::start(&["--debug", "--log-format", "text"]).await;
    let mut client = server.shell("exec sleep 1000").await;
    let socket = server.socket();
    let shutdown = Command::new(BINARY).args(["shutdown", "--socket"]).arg(&socket);
    run(shutdown, LONG).await.unwrap();
    assert_eq!(server.child.wait().await, ExitStatus::Code(0));
    assert!(!socket.exists());
    assert_eq!(client.rest().await, Vec::<String>::new());
    server.ended("pid").await;
    let log = server.log();
    for expected in ["exec request", "exec started", "shutdown requested", "shutdown complete"] {
        assert!(log.contains(expected), "{expected}: {log}");
    }
    let again = Command::new(BINARY).args(["shutdown", "--socket"]).arg(&socket);
    let SuperviseError::Failed { status, .. } = run(again, LONG).await.unwrap_err() else {
        panic!("nobody listens");
    };
    assert_eq!(status, ExitStatus::Code(1));
}

#[tokio::test]
async fn sigterm_ends_the_server_in_order() {
    let server = Server::start(&[]).await;
    let _client = server.shell("exec sleep 1000").await;
    server.child.signal(Signal::TERM);
    assert_eq!(server.child.wait().await, ExitStatus::Code(0));
    server.ended("pid").await;
    assert!(!server.socket().exists());
}

#[tokio::test]
async fn other_users_reach_the_socket_and_what_programs_make() {
    let server = Server::start(&[]).await;
    let mode = |path: PathBuf| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(server.socket()), 0o666);
    let made = server.file("made");
    run(Command::new("mkdir").arg(&made).through(server.launcher()), LONG).await.unwrap();
    assert_eq!(mode(made), 0o777);
    // A second server does not take the socket.
    let second = Command::new(BINARY).args(["serve", "--socket"]).arg(server.socket());
    assert!(matches!(run(second, LONG).await, Err(SuperviseError::Failed { .. })));
}

#[tokio::test]
async fn exec_has_the_streams_and_the_code_of_the_program() {
    let server = Server::start(&[]).await;
    let exec = |script: &str| {
        let exec = Command::new(BINARY).args(["exec", "--socket"]).arg(server.socket());
        exec.args(["--", "sh", "-c", script])
    };
    let bytes: Vec<u8> = (0..300_000).map(|at: u32| (at % 251) as u8).collect();
    let copied = exec("cat").stdin(Input::Bytes(bytes.clone())).stdout(Sink::Tail(1 << 20));
    assert_eq!(run(copied, LONG).await.unwrap().stdout, bytes);
    let failed = run(exec("echo oops >&2; exit 7"), LONG).await.unwrap_err();
    let SuperviseError::Failed { status, stderr, .. } = failed else { panic!("{failed}") };
    assert_eq!((status, stderr.trim()), (ExitStatus::Code(7), "oops"));
    let missing = Command::new(BINARY).args(["exec", "--socket"]).arg(server.socket());
    let missing = run(missing.args(["--", "/nowhere/tool"]), LONG).await.unwrap_err().to_string();
    assert!(missing.contains("spawn failed: No such file"), "{missing}");

    // Its own end ends the program.
    let script = format!("echo $$ > {}; exec sleep 1000", server.file("pid").display());
    let running = exec(&script).spawn().await.unwrap();
    eventually("the script runs", || server.pid("pid").is_some()).await;
    running.kill();
    server.ended("pid").await;
    server.no_process_is_left().await;
}

#[tokio::test]
async fn a_child_through_a_launcher_is_like_any_other() {
    let server = Server::start(&[]).await;
    let through = |script: &str| sh(script).through(server.launcher());
    let script = "cat; echo $SET; echo noted >&2";
    let echoed = through(script).stdin(Input::Bytes(b"in ".to_vec())).env("SET", "set");
    let output = run(echoed, LONG).await.unwrap();
    assert_eq!((output.stdout_text().as_str(), output.stderr.trim()), ("in set\n", "noted"));
    let failed = run(through("echo why >&2; exit 3"), LONG).await.unwrap_err();
    assert_eq!(failed.to_string(), "`sh` failed (exit code 3): why");
    let missing = Command::new("/nowhere/qemu").through(server.launcher());
    let missing = missing.spawn().await.unwrap_err();
    assert!(matches!(missing, SuperviseError::NotFound { .. }), "{missing}");
    let kept = tempfile::tempfile().unwrap();
    let kept = sh("true").keep_fd(kept.into()).through(server.launcher());
    assert!(kept.spawn().await.unwrap_err().to_string().contains("passes no files on"));

    let ready = server.file("ready");
    let deaf = format!("trap '' TERM; echo > {}; while :; do sleep 0.1; done", ready.display());
    let asleep = through(&deaf).spawn().await.unwrap();
    eventually("the script ignores SIGTERM", || ready.exists()).await;
    let plan = StopPlan::terminate(Duration::from_millis(300));
    let stopped = asleep.stop(plan).await.unwrap();
    assert_eq!(stopped.status, ExitStatus::Signal(9));
    let overdue = run(through("exec sleep 1000"), Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(overdue, SuperviseError::Deadline { .. }), "{overdue}");

    // The last handle is dropped.
    let dropped = through("exec sleep 1000").spawn().await.unwrap();
    let pid = dropped.pid();
    assert!(find(pid).is_some());
    drop(dropped);
    server.no_process_is_left().await;

    // The launcher ends.
    let bereaved = through("exec sleep 1000").spawn().await.unwrap();
    server.child.signal(Signal::KILL);
    assert_eq!(bereaved.wait().await, ExitStatus::Unknown);
    bereaved.wait_gone().await;
    let alone = through("true").spawn().await.unwrap_err();
    assert!(alone.hint().unwrap().contains("jumpstarter-exec serve"), "{alone}");
}

#[tokio::test]
async fn the_version_is_printed() {
    let output = run(Command::new(BINARY).arg("version"), LONG).await.unwrap();
    let expected = concat!("jumpstarter-exec ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(output.stdout_text(), expected);
}
