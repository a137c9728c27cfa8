//! Finding processes in /proc.

use std::fs;

use jumpstarter_driver_testkit::eventually;
use jumpstarter_driver_testkit::processes::find;
use jumpstarter_supervise::{Child, Command, Sink};

/// The environment variable by which a test recognises its processes.
pub(crate) const MARK: &str = "SUPERVISE_TEST_MARK";

/// A mark that no other test and no other run has.
pub(crate) fn new_mark(test: &str) -> String {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!("{test}-{}-{now}", std::process::id())
}

/// The living processes that have this mark in their environment.
pub(crate) fn marked(mark: &str) -> Vec<u32> {
    let wanted = format!("{MARK}={mark}");
    let pids = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|variable| variable == wanted.as_bytes())
    })
    .collect()
}

/// State, parent, group and session of a process, if it is there (a zombie is).
pub(crate) fn stat(pid: u32) -> Option<(char, u32, u32, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    let mut number = || fields.next()?.parse().ok();
    Some((state, number()?, number()?, number()?))
}

/// The guardian of a program that is running.
pub(crate) fn guardian(child: &Child) -> u32 {
    stat(child.pid()).unwrap().1
}

/// Whether a guardian has all that it needs: it holds its two pipes, and nothing else. Its program
/// may be faster.
pub(crate) fn guards(guardian: u32) -> bool {
    fs::read_dir(format!("/proc/{guardian}/fd")).is_ok_and(|open| open.count() == 2)
}

/// A shell that runs this script, with the mark, and whose stdout is kept.
pub(crate) fn shell(script: &str, mark: &str) -> Command {
    Command::new("sh").args(["-c", script]).env(MARK, mark).stdout(Sink::Tail(4096))
}

/// Starts such a shell and returns when it has said "ready".
pub(crate) async fn ready(script: &str, mark: &str) -> Child {
    let child = shell(script, mark).spawn().await.unwrap();
    eventually("the script is ready", || child.stdout_tail().contains("ready")).await;
    child
}

/// A tree: the program, a grandchild in its group, one in another session, and a daemon below that
/// one.
pub(crate) const TREE: &str =
    "sleep 1000 & setsid sh -c '(setsid sleep 1000 &) ; sleep 1000' & echo ready; wait";
/// How many processes that is.
pub(crate) const TREE_SIZE: usize = 5;

/// Starts the tree and returns when it is complete.
pub(crate) async fn tree(mark: &str) -> Child {
    let child = ready(TREE, mark).await;
    // Shells on the way to it are as many for a moment.
    let sleeps = |pid: &u32| find(*pid).is_some_and(|process| process.name == "sleep");
    eventually("the tree is complete", || {
        let all = marked(mark);
        all.len() == TREE_SIZE && all.iter().filter(|pid| sleeps(pid)).count() == 3
    })
    .await;
    child
}
