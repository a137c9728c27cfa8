//! Processes whose guardians are killed, as the first process of a container inherits them.

use jumpstarter_supervise::{Command, ExitStatus, reap_orphans};
use rustix::process::{getpid, set_child_subreaper};

/// The numbers and the states of this process's children.
fn children() -> Vec<(u32, char)> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let lists = threads.map(|thread| std::fs::read_to_string(thread.path().join("children")));
    let lists: Vec<String> = lists.map(Result::unwrap_or_default).collect();
    let numbers = lists.iter().flat_map(|list| list.split_whitespace());
    let state = |number: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
        Some((number.parse().ok()?, stat.rsplit(')').next()?.trim().chars().next()?))
    };
    numbers.filter_map(state).collect()
}

/// As the first process of a container: what killed guardians leave comes to this process.
#[tokio::test(flavor = "multi_thread")]
async fn orphans_are_reaped_and_no_exit_status_is_lost() {
    set_child_subreaper(Some(getpid())).unwrap();
    let reaping = tokio::spawn(reap_orphans());
    let mut programs = tokio::task::JoinSet::new();
    for code in 1..=40 {
        programs.spawn(async move {
            let leaves = Command::new("sh").args(["-c", "sleep 0.05 & kill -9 $PPID; sleep 9"]);
            let leaves = leaves.spawn().await.unwrap();
            let exits = Command::new("sh").args(["-c", &format!("exit {code}")]);
            let exits = exits.spawn().await.unwrap();
            assert_eq!(exits.wait().await.code(), Some(code));
            assert_eq!(leaves.wait().await, ExitStatus::Unknown);
            leaves.wait_gone().await;
            exits.wait_gone().await;
        });
    }
    while let Some(ended) = programs.join_next().await {
        ended.unwrap();
    }
    let began = std::time::Instant::now();
    while !children().is_empty() {
        assert!(began.elapsed().as_secs() < 60, "{:?} stayed", children());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(!reaping.is_finished());
}
