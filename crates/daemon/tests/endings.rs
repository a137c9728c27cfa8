//! How an exporter ends, and what stays of clients that are killed: real processes, real signals.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use jumpstarter_protocol::v1::{EndSessionRequest, ExporterStatus};
use rustix::process::Signal;
use support::process::{EXPORT, Exporter, example, status, until, until_status};
use support::{connect, frame, transport};

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
    let connects =
        || std::os::unix::net::UnixStream::connect(exporter.socket()).is_err().then_some(());
    until(connects, || "the end of the listener".to_owned()).await;
    assert_eq!(
        status(&mut client).await.status(),
        ExporterStatus::AfterLeaseHook,
        "who is there can follow"
    );
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
        tokio::time::timeout(Duration::from_secs(1), stream.sender.send(frame(vec![0; 1 << 16])))
            .await
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

/// Starts a client that is in the middle of something, and kills it there.
fn kill_in_the_middle(exporter: &Exporter, what: &str) {
    let mut command = example("load");
    command.arg(exporter.socket()).args(["hold", what]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut client = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(client.stdout.take().unwrap()).read_line(&mut line).unwrap();
    client.kill().unwrap();
    client.wait().unwrap();
    assert_eq!(
        line,
        "0.0\n",
        "the client did not get into the middle of {what}: {}",
        exporter.log()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_clients_leave_nothing() {
    let exporter = Exporter::start(|folder| {
        let image = folder.join("card.img");
        std::fs::write(&image, vec![0xa5; 32 << 20]).unwrap();
        format!(
            "{EXPORT}  flasher: {{type: file-flasher, config: {{path: {}}}}}\n",
            image.display()
        )
    });
    let kinds = ["echo", "console", "flash", "dump"];
    let round = |count: usize| {
        for number in 0..count {
            tokio::task::block_in_place(|| {
                kill_in_the_middle(&exporter, kinds[number % kinds.len()])
            });
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
    let folder = || {
        let entries = std::fs::read_dir(exporter.folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    // A thread removes what was staged.
    let expected = ["card.img", "exporter.yaml", "log", "socket", "tmp"];
    until(|| (folder() == expected).then_some(()), || format!("{:?}", folder())).await;
    assert!(
        std::fs::read(exporter.folder.path().join("card.img"))
            .unwrap()
            .iter()
            .all(|byte| *byte == 0xa5)
    );
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
        let send = || {
            tokio::time::timeout(Duration::from_secs(1), stream.sender.send(frame(chunk.clone())))
        };
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

#[tokio::test]
async fn a_socket_that_was_removed_is_made_again() {
    let exporter = Exporter::start(|_| EXPORT.to_owned());
    let mut before = connect(&exporter.socket()).await;
    std::fs::remove_file(exporter.socket()).unwrap();
    // It is there before it listens.
    let connects = || std::os::unix::net::UnixStream::connect(exporter.socket()).ok().map(drop);
    until(connects, || "the socket".to_owned()).await;
    connect(&exporter.socket()).await.call("power", "on", &[]).await.unwrap();
    before.call("power", "off", &[]).await.unwrap();
    exporter.until_logged("another program removed a socket; it was made again").await;
    drop(before);
    exporter.signal(Signal::TERM);
    assert_eq!(exporter.code().await.0, Some(0));
}
