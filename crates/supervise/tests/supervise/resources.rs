//! Descriptors and zombies: nothing leaks, in either direction.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use jumpstarter_driver_testkit::eventually;
use jumpstarter_supervise::{Command, Input, run};

use crate::processes::{guardian, stat};

const LONG: Duration = Duration::from_secs(60);

fn open_here() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test]
async fn a_hundred_programs_leave_no_descriptor_and_no_zombie() {
    run(Command::new("true"), LONG).await.unwrap();
    // Tests of other modules may run in this process, with their own descriptors, so the count is
    // compared with that of a hundred leaks.
    let before = open_here();
    let mut guardians = Vec::new();
    for _ in 0..100 {
        let child = Command::new("cat").stdin(Input::Piped).spawn().await.unwrap();
        guardians.push(guardian(&child));
        drop(child.take_stdin());
        assert!(child.wait().await.success());
    }
    eventually("all guardians are reaped", || guardians.iter().all(|&pid| stat(pid).is_none()))
        .await;
    eventually("all descriptors are closed", || open_here() < before + 50).await;
}

#[tokio::test]
async fn starts_that_fail_leave_no_descriptor_either() {
    let before = open_here();
    for _ in 0..100 {
        Command::new("/nowhere/tool").stdin(Input::Piped).spawn().await.unwrap_err();
    }
    eventually("all descriptors are closed", || open_here() < before + 50).await;
}

#[tokio::test]
async fn a_program_inherits_the_standard_streams_only() {
    let careless = File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&careless, rustix::io::FdFlags::empty()).unwrap();
    let output = run(Command::new("ls").arg("/proc/self/fd"), LONG).await.unwrap();
    // The last one is the folder that ls reads.
    assert_eq!(output.stdout_text(), "0\n1\n2\n3\n");
}

#[tokio::test]
async fn a_program_inherits_what_it_is_given() {
    let mut file = tempfile::tempfile().unwrap();
    write!(file, "handed on").unwrap();
    let file = OwnedFd::from(file);
    let number = file.as_raw_fd();
    let script = format!("cat < /proc/self/fd/{number}");
    let output = run(Command::new("sh").args(["-c", &script]).keep_fd(file), LONG).await.unwrap();
    assert_eq!(output.stdout_text(), "handed on");
}

#[tokio::test]
async fn a_program_starts_with_signals_as_usual() {
    let output = run(Command::new("cat").arg("/proc/self/status"), LONG).await.unwrap();
    let status = output.stdout_text();
    let field = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert_eq!(field("SigBlk:"), "SigBlk:\t0000000000000000");
    assert_eq!(field("SigCgt:"), "SigCgt:\t0000000000000000");
    // Some environments ignore further signals; a Rust program ignores SIGPIPE, and must not pass
    // that on.
    let ignored = u64::from_str_radix(field("SigIgn:").rsplit('\t').next().unwrap(), 16).unwrap();
    assert_eq!(ignored & (1 << 12 | 1 << 16), 0, "SIGPIPE and SIGCHLD");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_start_at_once() {
    let starts: Vec<_> = (0..50)
        .map(|number: u32| {
            let command =
                Command::new("sh").args(["-c", &format!("echo {number}; exit {}", number % 3)]);
            tokio::spawn(async move {
                let output = jumpstarter_supervise::run_unchecked(command, LONG).await.unwrap();
                assert_eq!(output.stdout_text(), format!("{number}\n"));
                assert_eq!(output.status.code(), i32::try_from(number % 3).ok());
            })
        })
        .collect();
    for start in starts {
        start.await.unwrap();
    }
}
