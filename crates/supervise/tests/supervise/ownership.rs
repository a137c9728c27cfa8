//! Whatever happens to the owner, nothing of what it owned is left.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use jumpstarter_driver_testkit::eventually;
use jumpstarter_supervise::{Command, ExitStatus};

use crate::processes::{
    MARK, TREE_SIZE, guardian, guards, marked, new_mark, ready, shell, stat, tree,
};

/// Says to the test below what to do as the owner that is to die.
const ROLE: &str = "SUPERVISE_TEST_ROLE";

/// Run in a separate process by the tests below: owns two trees, and dies in the requested way.
/// Without a role, it checks the tree that the others rely on.
#[tokio::test(flavor = "multi_thread")]
async fn owner_of_two_trees() {
    let mark = std::env::var(MARK).unwrap_or_else(|_| new_mark("owner"));
    let role = std::env::var(ROLE).unwrap_or_default();
    let first = ready(crate::processes::TREE, &mark).await;
    let second = ready(crate::processes::TREE, &mark).await;
    if role.is_empty() {
        eventually("two trees", || marked(&mark).len() == 2 * TREE_SIZE).await;
        assert!(first.is_running() && second.is_running());
        return;
    }
    println!("owning");
    // The test waits for the end of stdout: no process of the tree, and no guardian, may hold it
    // open.
    match role.as_str() {
        "waits" => first.wait_gone().await,
        "exits" => std::process::exit(0),
        "finishes" => {
            first.kill();
            second.kill();
            first.wait_gone().await;
            second.wait_gone().await;
            std::process::exit(0);
        }
        other => panic!("unknown role {other}"),
    }
}

/// Starts the owner above in a separate process.
fn start_owner(
    role: &str,
    mark: &str,
) -> (std::process::Child, BufReader<std::process::ChildStdout>) {
    #[expect(
        clippy::disallowed_methods,
        reason = "an owner that nobody owns, to see what its death leaves behind"
    )]
    let mut owner = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ownership::owner_of_two_trees", "--nocapture"])
        .env(ROLE, role)
        .env(MARK, mark)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(owner.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("owning") {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "the owner ended early");
    }
    (owner, output)
}

/// Reads to the end, on a thread where it may block.
async fn read_to_end(mut output: BufReader<std::process::ChildStdout>) {
    let reading =
        tokio::task::spawn_blocking(move || std::io::copy(&mut output, &mut std::io::sink()));
    tokio::time::timeout(Duration::from_secs(60), reading)
        .await
        .expect("stdout is held open")
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn killing_the_owner_leaves_no_child_no_grandchild_and_no_guardian() {
    let mark = new_mark("killed");
    let (mut owner, output) = start_owner("waits", &mark);
    // The owner itself, two guardians, two trees.
    eventually("all are there", || marked(&mark).len() == 3 + 2 * TREE_SIZE).await;
    owner.kill().unwrap();
    owner.wait().unwrap();
    read_to_end(output).await;
    eventually("nothing is left", || marked(&mark).is_empty()).await;
}

#[tokio::test]
async fn killing_the_owner_of_suspended_guardians_leaves_nothing() {
    let mark = new_mark("suspended-owner");
    let (mut owner, output) = start_owner("waits", &mark);
    eventually("all are there", || marked(&mark).len() == 3 + 2 * TREE_SIZE).await;
    let children_of_owner =
        |pid: &u32| stat(*pid).is_some_and(|(_, parent, ..)| parent == owner.id());
    let guardians: Vec<u32> = marked(&mark).into_iter().filter(children_of_owner).collect();
    assert_eq!(guardians.len(), 2);
    for guardian in &guardians {
        eventually("it guards", || guards(*guardian)).await;
        let pid = rustix::process::Pid::from_raw(i32::try_from(*guardian).unwrap()).unwrap();
        rustix::process::kill_process(pid, jumpstarter_supervise::Signal::STOP).unwrap();
        eventually("it stands", || stat(*guardian).is_some_and(|(state, ..)| state == 'T')).await;
    }
    owner.kill().unwrap();
    owner.wait().unwrap();
    read_to_end(output).await;
    eventually("nothing is left", || marked(&mark).is_empty()).await;
}

#[tokio::test]
async fn an_owner_that_exits_without_a_word_leaves_nothing() {
    let mark = new_mark("exits");
    let (mut owner, output) = start_owner("exits", &mark);
    assert!(owner.wait().unwrap().success());
    read_to_end(output).await;
    eventually("nothing is left", || marked(&mark).is_empty()).await;
}

#[tokio::test]
async fn an_owner_whose_programs_have_ended_leaves_no_guardian() {
    let mark = new_mark("finishes");
    let (mut owner, output) = start_owner("finishes", &mark);
    assert!(owner.wait().unwrap().success());
    read_to_end(output).await;
    // The owner waited until all was gone: there is nothing to wait for here.
    assert_eq!(marked(&mark), [0; 0]);
}

#[tokio::test]
async fn dropping_the_last_handle_kills_the_tree() {
    let mark = new_mark("drop");
    let child = tree(&mark).await;
    let guardian = guardian(&child);
    let clone = child.clone();
    drop(child);
    assert!(clone.is_running());
    assert_eq!(marked(&mark).len(), TREE_SIZE);
    drop(clone);
    eventually("nothing is left", || marked(&mark).is_empty() && stat(guardian).is_none()).await;
}

#[tokio::test]
async fn a_runtime_that_ends_before_its_handles_does_not_matter() {
    let mark = new_mark("runtime");
    let child = tokio::task::spawn_blocking({
        let mark = mark.clone();
        move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(tree(&mark))
        }
    });
    let child = child.await.unwrap();
    assert_eq!(child.wait().await, ExitStatus::Unknown);
    assert_eq!(marked(&mark).len(), TREE_SIZE, "the handle is still there");
    drop(child);
    eventually("nothing is left", || marked(&mark).is_empty()).await;
}

#[tokio::test]
async fn a_start_cancelled_at_any_moment_leaves_nothing() {
    let mark = new_mark("cancelled");
    let before = own_children();
    for microseconds in (0..4000).step_by(40) {
        let start = shell("sleep 1000 & sleep 1000", &mark).spawn();
        // Dropped after some polls: before the fork, during it, or after it.
        drop(tokio::time::timeout(Duration::from_micros(microseconds), start).await);
    }
    // Forks that no one waits for may still be about to happen.
    let mut quiet = 0;
    eventually("nothing is left", || {
        quiet = if marked(&mark).is_empty() && own_children() <= before { quiet + 1 } else { 0 };
        quiet > 20
    })
    .await;
}

/// How many children this process has, zombies included.
fn own_children() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok())
        .map(|children| children.split_whitespace().count())
        .sum()
}

#[tokio::test]
async fn a_program_has_its_own_group_and_its_guardian_its_own_session() {
    let mark = new_mark("group");
    let child = ready("echo ready; exec sleep 1000", &mark).await;
    let ours = stat(std::process::id()).unwrap();
    let (_, guardian, group, session) = stat(child.pid()).unwrap();
    assert_eq!((group, session), (child.pid(), ours.3));
    eventually("it holds its two pipes, nothing else", || guards(guardian)).await;
    // So Ctrl-C in the terminal reaches neither.
    assert_eq!(stat(guardian).unwrap().3, guardian);
}

#[tokio::test]
async fn a_program_in_our_group_is_killed_without_us() {
    let mark = new_mark("our-group");
    let script = "sleep 1000 & (setsid sleep 1000 &); echo ready; wait";
    let child = shell(script, &mark).in_our_group().spawn().await.unwrap();
    eventually("all are there", || marked(&mark).len() == 3).await;
    assert_eq!(stat(child.pid()).unwrap().2, stat(std::process::id()).unwrap().2);
    child.kill();
    child.wait_gone().await;
    assert_eq!(marked(&mark), [0; 0]);
}

#[tokio::test]
async fn a_program_dies_with_its_guardian() {
    let mark = new_mark("guardian");
    let child = ready("sleep 1000 & echo ready; wait", &mark).await;
    #[expect(clippy::cast_possible_wrap, reason = "process ids are small")]
    let pid = rustix::process::Pid::from_raw(guardian(&child) as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(child.wait().await, ExitStatus::Unknown);
    child.wait_gone().await;
    eventually("its group has ended, too", || marked(&mark).is_empty()).await;
}

#[tokio::test]
async fn what_a_program_leaves_running_is_owned_until_the_last_handle() {
    let mark = new_mark("daemon");
    let child = shell("(setsid sleep 1000 &)", &mark).spawn().await.unwrap();
    assert!(child.wait().await.success());
    eventually("the daemon lives on", || marked(&mark).len() == 1).await;
    drop(child);
    eventually("nothing is left", || marked(&mark).is_empty()).await;
}

#[tokio::test]
async fn outside_a_runtime_a_start_is_refused() {
    let outside = std::thread::spawn(|| {
        let mut start = std::pin::pin!(Command::new("true").spawn());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match start.as_mut().poll(&mut context) {
            std::task::Poll::Ready(result) => result.map(|_| ()).unwrap_err().to_string(),
            std::task::Poll::Pending => "pending".to_owned(),
        }
    });
    let message = outside.join().unwrap();
    assert_eq!(
        message,
        "nothing watches over `true`: there is no async runtime, or it was shut down"
    );
}
