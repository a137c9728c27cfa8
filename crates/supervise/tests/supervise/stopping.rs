//! Stops: in order and once, with several callers and cancelled ones.

use std::time::{Duration, Instant};

use jumpstarter_driver_testkit::eventually;
use jumpstarter_driver_testkit::processes::find;
use jumpstarter_supervise::{ExitStatus, Signal, StopPlan};

use crate::processes::{guardian, guards, marked, new_mark, ready, stat, tree};

/// More than any test takes.
const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(100);

/// Ignores SIGTERM, and so does what it runs.
const DEAF: &str = "trap '' TERM; echo ready; while :; do sleep 1000; done";
const PLAIN: &str = "echo ready; exec sleep 1000";

#[tokio::test]
async fn a_program_that_obeys_is_stopped_by_the_first_step() {
    let child = ready(PLAIN, &new_mark("obeys")).await;
    let stopped = child.stop(StopPlan::terminate(Duration::MAX)).await.unwrap();
    assert_eq!(stopped.to_string(), "stopped by SIGTERM (killed by SIGTERM)");
    assert_eq!(child.try_status(), Some(ExitStatus::Signal(15)));
}

#[tokio::test]
async fn steps_come_in_order_and_sigkill_last() {
    let mark = new_mark("deaf");
    let child = ready(DEAF, &mark).await;
    let plan = StopPlan::new()
        .ask("powerdown", LONG, async { Err("no such device") })
        .ask("quit", SHORT, async { Ok::<(), String>(()) })
        .ask("hangs", SHORT, std::future::pending::<Result<(), String>>())
        .signal(Signal::TERM, SHORT)
        .signal_group(Signal::TERM, SHORT);
    let stopped = child.stop(plan).await.unwrap();
    assert_eq!(
        stopped.to_string(),
        "stopped by SIGKILL (killed by SIGKILL); in vain: powerdown (no such device), quit (not within 100ms), \
         hangs (not within 100ms), SIGTERM (not within 100ms), SIGTERM to the group (not within 100ms)"
    );
    assert_eq!(marked(&mark), [0; 0]);
}

#[tokio::test]
async fn an_ask_that_works_is_named() {
    let child = ready("echo ready; read line; exit 3", &new_mark("ask")).await;
    // Its stdin is at its end already, so it ends by itself; the question is dropped then.
    let asked = child.clone();
    let plan = StopPlan::new().ask("question", LONG, async move {
        asked.wait().await;
        std::future::pending::<Result<(), String>>().await
    });
    let stopped = child.stop(plan).await.unwrap();
    assert_eq!(stopped.status, ExitStatus::Code(3));
    assert!(matches!(stopped.by.as_deref(), None | Some("question")), "{stopped}");
}

#[tokio::test]
async fn a_group_signal_reaches_the_grandchild() {
    let mark = new_mark("group-signal");
    // The shell outlives SIGTERM for as long as its child lives.
    let child = ready("trap : TERM; sleep 1000 & echo ready; wait; wait; exit 7", &mark).await;
    // Not the copy of the shell, which heeds the trap.
    let sleeps = |pid: &u32| find(*pid).is_some_and(|process| process.name == "sleep");
    eventually("both are there", || marked(&mark).iter().any(sleeps)).await;
    let stopped = child.stop(StopPlan::new().signal_group(Signal::TERM, LONG)).await.unwrap();
    assert_eq!(stopped.to_string(), "stopped by SIGTERM to the group (exit code 7)");
}

#[tokio::test]
async fn a_stop_takes_the_whole_tree() {
    let mark = new_mark("stop-tree");
    let child = tree(&mark).await;
    let stopped = child.stop(StopPlan::terminate(LONG)).await.unwrap();
    assert_eq!(stopped.by.as_deref(), Some("SIGTERM"));
    assert_eq!(marked(&mark), [0; 0], "the grandchildren have ended when the stop returns");
}

#[tokio::test]
async fn a_dead_program_is_stopped_at_once() {
    let child = ready("echo ready; exit 4", &new_mark("dead")).await;
    child.wait_gone().await;
    let plan =
        || StopPlan::new().ask("never asked", LONG, std::future::pending::<Result<(), String>>());
    let stopped = tokio::time::timeout(LONG / 10, child.stop(plan())).await.unwrap().unwrap();
    assert_eq!(stopped.to_string(), "had already ended (exit code 4)");
    assert_eq!(child.stop(plan()).await.unwrap(), stopped, "stopping again says the same");
    assert!(!child.signal(Signal::TERM) && !child.signal_group(Signal::TERM));
}

#[tokio::test]
async fn concurrent_stops_share_one_result() {
    let child = ready(DEAF, &new_mark("concurrent")).await;
    let first = StopPlan::new().signal(Signal::TERM, SHORT).signal(Signal::USR1, LONG);
    let callers: Vec<_> = std::iter::once(first)
        .chain((0..20).map(|_| StopPlan::new()))
        .map(|plan| {
            let child = child.clone();
            tokio::spawn(async move { child.stop(plan).await.unwrap() })
        })
        .collect();
    for caller in callers {
        assert_eq!(
            caller.await.unwrap().to_string(),
            "stopped by SIGUSR1 (killed by SIGUSR1); in vain: SIGTERM (not within 100ms)"
        );
    }
}

#[tokio::test]
async fn a_stop_goes_on_when_its_caller_gives_up() {
    let mark = new_mark("given-up");
    let child = ready(DEAF, &mark).await;
    let plan = StopPlan::new().signal(Signal::TERM, SHORT).signal(Signal::USR1, LONG);
    assert!(tokio::time::timeout(Duration::ZERO, child.stop(plan)).await.is_err());
    drop(child.clone());
    assert_eq!(child.wait().await, ExitStatus::Signal(10), "the second step came");
}

#[tokio::test]
async fn a_kill_ends_a_stop_that_takes_long() {
    let child = ready(DEAF, &new_mark("impatient")).await;
    let stopping = tokio::spawn({
        let child = child.clone();
        async move { child.stop(StopPlan::terminate(LONG)).await.unwrap() }
    });
    tokio::task::yield_now().await;
    child.kill();
    let stopped = stopping.await.unwrap();
    assert_eq!((stopped.by.as_deref(), stopped.status), (Some("SIGKILL"), ExitStatus::Signal(9)));
}

#[tokio::test]
async fn a_paused_program_can_be_killed() {
    let mark = new_mark("paused");
    let child = ready(PLAIN, &mark).await;
    assert!(child.signal(Signal::STOP));
    eventually("it is paused", || crate::processes::stat(child.pid()).unwrap().0 == 'T').await;
    let stopped = child.stop(StopPlan::terminate(SHORT)).await.unwrap();
    assert_eq!(stopped.by.as_deref(), Some("SIGKILL"));
}

#[tokio::test]
async fn waiting_does_not_wait_for_the_stop_of_descendants() {
    let mark = new_mark("waiters");
    let child = tree(&mark).await;
    let waiters: Vec<_> = (0..100)
        .map(|_| {
            let child = child.clone();
            tokio::spawn(async move { child.wait().await })
        })
        .collect();
    let began = Instant::now();
    child.stop(StopPlan::terminate(LONG)).await.unwrap();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), ExitStatus::Signal(15));
    }
    assert!(began.elapsed() < LONG / 10);
}

/// Stops the child's guardian, and returns when it stands.
async fn suspend_guardian(child: &jumpstarter_supervise::Child) -> u32 {
    let guardian = guardian(child);
    eventually("it guards", || guards(guardian)).await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(guardian).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::STOP).unwrap();
    eventually("the guardian stands", || stat(guardian).is_some_and(|(state, ..)| state == 'T'))
        .await;
    guardian
}

#[tokio::test]
async fn a_guardian_that_was_suspended_is_no_obstacle() {
    let mark = new_mark("suspended");
    let child = ready(PLAIN, &mark).await;
    suspend_guardian(&child).await;
    let stopped = child.stop(StopPlan::terminate(LONG)).await.unwrap();
    assert_eq!(stopped.by.as_deref(), Some("SIGTERM"));
    assert_eq!(marked(&mark), [0; 0]);

    let child = tree(&mark).await;
    let guardian = suspend_guardian(&child).await;
    drop(child);
    eventually("nothing is left", || marked(&mark).is_empty() && stat(guardian).is_none()).await;
}
