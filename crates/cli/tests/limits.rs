//! Programs with few file descriptors, threads or processes: they say so or do their work, and
//! never panic or hang.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/inside.rs"]
mod inside;
#[path = "support/lab.rs"]
mod lab;
#[path = "support/terminal.rs"]
mod terminal;

use std::os::unix::fs::{PermissionsExt, chown};

use jumpstarter_driver_testkit::skip;
use jumpstarter_supervise::{Child, Command, Output, Signal, Sink, run_unchecked};
use rustix::process::getuid;
use tokio::io::{AsyncBufReadExt, BufReader};

use lab::clean;
use terminal::{DEADLINE, J, JMP, Lab, code};

const DEVICE: &str = "
export:
  power: {type: mock-power}
  flasher: {type: mock-flasher}
hooks:
  beforeLease: {script: 'echo prepared', timeout: 30}
";

/// A command under limits, given as a shell sets them.
fn limited(script: &str, program: &str, words: &[&str]) -> Command {
    let script = format!("{script} \"$@\"");
    clean(Command::new("/bin/sh")).args(["-c", &script, "sh", program]).args(words)
}

fn ended_well(output: &Output, what: &str) {
    let text = &output.stderr;
    assert!(!text.contains("panicked"), "{what}: {text}");
    match output.status.code() {
        Some(0) => {}
        Some(1..=3) => assert!(text.contains("error: "), "{what}: {text}"),
        other => panic!("{what}: {other:?} {text}"),
    }
}

/// Starts an exporter, which may refuse to, and uses and ends it if it does not. Answers whether it
/// started.
async fn serves(lab: &Lab, script: &str) -> bool {
    let (file, socket) = (lab.file(), lab.path("s"));
    let socket = socket.to_str().unwrap();
    let words = ["run", "--exporter-config", &file, "--listen-unix", socket];
    let command =
        limited(script, JMP, &words).env("TMPDIR", lab.path("tmp")).env_remove("XDG_RUNTIME_DIR");
    let child: Child = command.stdout(Sink::Piped).stderr(Sink::Tail(65536)).spawn().await.unwrap();
    let mut lines = BufReader::new(child.take_stdout().unwrap()).lines();
    let line = tokio::time::timeout(DEADLINE, lines.next_line()).await.expect("no hang").unwrap();
    let Some(line) = line else {
        let code = code(&child).await;
        let text = child.stderr_tail();
        assert!(
            code == Some(1) && text.contains("error: ") && !text.contains("panicked"),
            "{script}: {text}"
        );
        return false;
    };
    assert!(line.starts_with("ready "), "{line}");
    let calls: &[&[&str]] = &[&["power", "on"], &["flasher", "flash", &file], &["power", "off"]];
    for words in calls {
        let call = clean(Command::new(J)).args(*words).env("JUMPSTARTER_HOST", socket);
        let output = run_unchecked(call, DEADLINE).await.expect("no hang");
        ended_well(&output, &format!("{script}: {words:?}: {}", child.stderr_tail()));
    }
    child.signal(Signal::TERM);
    assert!(code(&child).await.is_some(), "{script}");
    let text = child.stderr_tail();
    assert!(!text.contains("panicked"), "{script}: {text}");
    true
}

fn lab_of(owner: Option<u32>) -> Lab {
    let lab = Lab::new(DEVICE);
    std::fs::create_dir(lab.path("tmp")).unwrap();
    if let Some(owner) = owner {
        std::fs::set_permissions(lab.folder(), PermissionsExt::from_mode(0o755)).unwrap();
        for path in [lab.folder().to_owned(), lab.path("tmp"), lab.path("lab.yaml")] {
            chown(path, Some(owner), Some(owner)).unwrap();
        }
    }
    lab
}

#[tokio::test]
async fn few_file_descriptors_are_an_error_or_enough() {
    let lab = lab_of(None);
    let mut started = Vec::new();
    for files in [8, 12, 16, 20, 24, 28, 32, 40, 48, 64] {
        // The hard limit too: it could be raised otherwise.
        started.push(serves(&lab, &format!("ulimit -n {files}; exec")).await);
        let call = limited(
            &format!("ulimit -n {files}; exec"),
            J,
            &["--exporter-config", &lab.file(), "power", "on"],
        );
        ended_well(
            &run_unchecked(call, DEADLINE).await.expect("no hang"),
            &format!("j with {files} files"),
        );
    }
    assert_eq!((started.first(), started.last()), (Some(&false), Some(&true)), "{started:?}");
}

/// The limit counts all threads and processes of a user, and does not bind root: another user runs
/// the programs then.
#[tokio::test]
async fn few_threads_are_an_error_or_enough() {
    let user = getuid().is_root().then(|| 200_000 + std::process::id());
    let drop_root = user.map_or_else(String::new, |user| {
        format!("exec setpriv --reuid {user} --regid {user} --clear-groups --no-new-privs ")
    });
    let lab = lab_of(user);
    let mut started = Vec::new();
    for threads in [1, 2, 3, 4, 6, 8, 12, 16, 64] {
        // Of another user nothing else runs, so that this is what is left; of one's own, nothing
        // is.
        let script = format!("{drop_root} prlimit --nproc={threads}");
        let script = if user.is_some() { script } else { format!("exec{script}") };
        started.push(serves(&lab, &script).await);
        let call = limited(&script, J, &["--exporter-config", &lab.file(), "power", "on"]);
        ended_well(
            &run_unchecked(call, DEADLINE).await.expect("no hang"),
            &format!("j with {threads} threads"),
        );
    }
    assert_eq!(started.first(), Some(&false), "{started:?}");
    assert!(user.is_none() || started.last() == Some(&true), "{started:?}");
}

#[tokio::test]
async fn an_exporter_serves_where_dev_is_empty() {
    const EMPTY: &str = "exec unshare --user --map-root-user --mount sh -c \
                         'mount -t tmpfs none /dev && exec \"$@\"' sh";
    let try_it = limited(EMPTY, "true", &[]);
    if !run_unchecked(try_it, DEADLINE).await.expect("no hang").status.success() {
        return skip("this system permits no mount namespace");
    }
    assert!(serves(&lab_of(None), EMPTY).await);
}
