//! How runs end when things go wrong: crashes, hangs, helpers that stay, calls that race.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::future::Future;
use std::path::{Path, PathBuf};

use common::{Fixture, SOON, ask, can_run, is_alive, log_in, pico_machine, program};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_qemu::{Machine, MachineState, Phase, QemuConfig, StopOutcome, Vm};
use jumpstarter_driver_testkit::{eventually, pico, skip};
use jumpstarter_supervise::{Command, Sink, StopPlan};
use rustix::process::{Pid, Signal, kill_process};

async fn state(vm: &Vm) -> MachineState {
    vm.state().await.unwrap()
}

/// What takes milliseconds on an idle machine, with its outcome.
async fn soon<T>(doing: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, doing).await.expect("it ends in time")
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}

/// A machine whose guest ignores the power button, and somebody who waits for its `stop`.
async fn stopping() -> (Fixture, tokio::task::JoinHandle<Result<StopOutcome>>) {
    let fixture = pico_machine(|config| config.timeouts.shutdown = Span::seconds(3600)).await;
    fixture.vm.start().await.unwrap();
    let mut console = fixture.logged_in().await;
    ask(&mut console, pico::command::IGNORE_POWER_BUTTON, pico::IGNORE_LINE).await;
    let vm = fixture.vm.clone();
    let stopping = tokio::spawn(async move { vm.stop().await });
    fixture.vm.wait_for(Phase::Stopping, None).await.unwrap();
    (fixture, stopping)
}

#[tokio::test]
async fn off_hurries_a_stop_that_waits() {
    if !can_run() {
        return;
    }
    let (fixture, stopping) = stopping().await;
    assert_eq!(soon(fixture.vm.cut()).await.unwrap(), StopOutcome::Cut);
    assert_eq!(state(&fixture.vm).await, MachineState::Off);
    assert_eq!(soon(stopping).await.unwrap().unwrap(), StopOutcome::Cut);
}

#[tokio::test]
async fn a_crash_during_a_stop_is_not_graceful() {
    if !can_run() {
        return;
    }
    let (fixture, stopping) = stopping().await;
    signal(fixture.vm.pid().unwrap(), Signal::SEGV);
    assert_eq!(soon(stopping).await.unwrap().unwrap(), StopOutcome::Crashed);
    let MachineState::Crashed { why } = state(&fixture.vm).await else {
        panic!("no crash is reported")
    };
    assert!(why.contains("SIGSEGV"), "{why}");
    // As `off` does, a stop takes note of the crash.
    assert_eq!(fixture.vm.stop().await.unwrap(), StopOutcome::AlreadyOff);
    assert_eq!(state(&fixture.vm).await, MachineState::Off);
}

#[tokio::test]
async fn a_qemu_that_hangs_is_killed_in_time() {
    if !can_run() {
        return;
    }
    let fixture = pico_machine(|config| {
        config.timeouts.command = Span::milliseconds(100);
        config.timeouts.quit = Span::milliseconds(200);
    })
    .await;
    let vm = &fixture.vm;
    for by_stop in [true, false] {
        vm.start().await.unwrap();
        let pid = vm.pid().unwrap();
        signal(pid, Signal::STOP);
        let ending = async { if by_stop { vm.stop().await } else { vm.cut().await } };
        assert_eq!(soon(ending).await.unwrap(), StopOutcome::Killed, "by stop: {by_stop}");
        assert_eq!(state(vm).await, MachineState::Off);
        assert!(!is_alive(pid));
    }
}

/// A QEMU that leaves a helper behind, which holds all that it was given.
fn with_helper(folder: &Path) -> PathBuf {
    program(
        folder,
        "case \"$*\" in *--version*) ;; *) sleep 1000 & esac\nexec qemu-system-x86_64 \"$@\"\n",
    )
}

#[tokio::test]
async fn a_helper_that_outlives_qemu_ends_with_it() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let fixture =
        pico_machine(|config| config.binary = Some(with_helper(folder.path()).into())).await;
    let vm = &fixture.vm;
    for by_guest in [true, false] {
        soon(vm.start()).await.unwrap();
        let mut console = fixture.logged_in().await;
        if by_guest {
            console.send_line(pico::command::POWER_OFF).await.unwrap();
            vm.wait_for(Phase::Off, None).await.unwrap();
        } else {
            assert_eq!(soon(vm.cut()).await.unwrap(), StopOutcome::Cut);
        }
        assert_eq!((state(vm).await, vm.pid()), (MachineState::Off, None));
    }
}

#[tokio::test]
async fn a_start_that_gets_no_answer_ends_in_time_with_what_was_said() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // A descriptor above 9 needs bash.
    let script = "case \"$*\" in *--version*) exec qemu-system-x86_64 \"$@\"; esac\n\
                  fd=$(echo \"$@\" | sed 's/.*id=console,fd=\\([0-9]*\\).*/\\1/')\n\
                  exec bash -c 'echo no disk found >&\"$0\"; echo lost >&2; exec '\"$END\" \"$fd\"\n";
    for (end, kind) in
        [("sleep 1000", ErrorKind::DeadlineExceeded), ("sh -c \"exit 3\"", ErrorKind::Internal)]
    {
        let program = program(folder.path(), &format!("END='{end}'\n{script}"));
        let fixture = pico_machine(|config| {
            config.binary = Some(program.into());
            config.timeouts.start = Span::seconds(10);
        })
        .await;
        let error = soon(fixture.vm.start()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        let report = error.report();
        assert!(report.contains("lost") && report.contains("no disk found"), "{report}");
        assert_eq!(state(&fixture.vm).await, MachineState::Off);
    }
}

#[tokio::test]
async fn destroy_ends_a_start_that_gets_no_answer() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script =
        "case \"$*\" in *--version*) exec qemu-system-x86_64 \"$@\"; esac\nexec sleep 1000\n";
    let program = program(folder.path(), script);
    let fixture = pico_machine(|config| {
        config.binary = Some(program.into());
        config.timeouts.start = Span::seconds(3600);
    })
    .await;
    let vm = fixture.vm.clone();
    let starting = tokio::spawn(async move { vm.start().await });
    fixture.vm.wait_for(Phase::Starting, None).await.unwrap();
    soon(fixture.vm.destroy()).await.unwrap();
    let error = soon(starting).await.unwrap().unwrap_err();
    assert!(error.report().contains("is destroyed"), "{error:?}");
    assert_eq!(state(&fixture.vm).await, MachineState::Destroyed);
}

#[tokio::test]
async fn a_destroyed_machine_says_what_mends_it() {
    if !can_run() {
        return;
    }
    let fixture = pico_machine(|_| {}).await;
    let vm = &fixture.vm;
    vm.start().await.unwrap();
    vm.destroy().await.unwrap();
    assert_eq!(
        state(vm).await.to_string(),
        "destroyed until its device is opened again (restart the exporter)"
    );
    for refused in
        [vm.start().await, vm.pause().await, vm.wait_for(Phase::Off, None).await.map(drop)]
    {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(error.hint().unwrap().contains("restart the exporter"), "{error:?}");
    }
    assert_eq!(vm.stop().await.unwrap(), StopOutcome::AlreadyOff);
    vm.destroy().await.unwrap();
    assert_eq!(state(vm).await, MachineState::Destroyed);
}

#[tokio::test]
async fn a_machine_that_is_told_not_to_run_yet_is_paused() {
    if !can_run() {
        return;
    }
    let fixture = pico_machine(|config| config.extra_args = vec!["-S".to_owned()]).await;
    fixture.vm.start().await.unwrap();
    assert_eq!(state(&fixture.vm).await, MachineState::PAUSED);
    fixture.vm.resume().await.unwrap();
    assert_eq!(state(&fixture.vm).await, MachineState::Running);
    fixture.logged_in().await;
}

#[tokio::test]
async fn a_panic_is_over_with_the_reset() {
    if !can_run() {
        return;
    }
    let keep =
        |config: &mut QemuConfig| config.extra_args = vec!["-action".into(), "panic=pause".into()];
    let fixture = pico_machine(keep).await;
    let vm = &fixture.vm;
    vm.start().await.unwrap();
    let mut console = fixture.logged_in().await;
    console.send_line(pico::command::PANIC).await.unwrap();
    vm.wait_for(Phase::Paused, None).await.unwrap();
    Machine::reset(vm).await.unwrap();
    vm.resume().await.unwrap();
    log_in(&mut console).await;
    console.send_line(pico::command::POWER_OFF).await.unwrap();
    assert_eq!(vm.wait_for(Phase::Off, None).await.unwrap(), MachineState::Off);
}

/// One of the things that many do at once; a refusal is fine, a timeout is not.
async fn act(vm: &Vm, number: usize) {
    let outcome = match number % 6 {
        0 | 1 => vm.pause().await,
        2 | 3 => vm.resume().await,
        _ => Machine::reset(vm).await,
    };
    if let Err(error) = outcome {
        let refused = [ErrorKind::FailedPrecondition, ErrorKind::Internal, ErrorKind::Unavailable];
        assert!(refused.contains(&error.kind()), "{error:?}");
    }
}

/// Runs `act` from many tasks, and `end` among them.
async fn race<F: Future<Output = ()> + Send + 'static>(vm: &Vm, end: impl Fn(Vm) -> F) {
    let mut racers = Vec::new();
    for number in 0..24 {
        let racer = vm.clone();
        racers.push(tokio::spawn(async move { act(&racer, number).await }));
        if number == 17 {
            racers.push(tokio::spawn(end(vm.clone())));
        }
    }
    for racer in racers {
        soon(racer).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_that_race_end_soon_and_in_one_state() {
    if !can_run() {
        return;
    }
    // A wait for an event that does not come takes this long: well above `SOON`.
    let fixture = pico_machine(|config| {
        config.timeouts.command = Span::seconds(600);
        // A reset may well come after the button: the guest does not know of it then.
        config.timeouts.shutdown = Span::seconds(1);
    })
    .await;
    let vm = &fixture.vm;
    for round in 0..3 {
        vm.start().await.unwrap();
        race(vm, async |_| {}).await;
        let (paused, run) = (state(vm).await, vm.pid());
        assert!(paused.is_up() && run.is_some(), "{paused}");
        vm.resume().await.unwrap();
        assert_eq!(state(vm).await, MachineState::Running, "round {round}");

        race(vm, async |vm| assert!(vm.cut().await.is_ok())).await;
        assert_eq!((state(vm).await, vm.pid()), (MachineState::Off, None), "round {round}");

        vm.start().await.unwrap();
        fixture.logged_in().await;
        race(vm, async |vm| assert!(vm.stop().await.is_ok())).await;
        assert_eq!((state(vm).await, vm.pid()), (MachineState::Off, None), "round {round}");
    }
    vm.start().await.unwrap();
    race(vm, async |vm| vm.destroy().await.unwrap()).await;
    assert_eq!((state(vm).await, vm.pid()), (MachineState::Destroyed, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stop_that_meets_the_end_of_the_run_leaves_no_state_behind() {
    if !can_run() {
        return;
    }
    let fixture = pico_machine(|_| {}).await;
    let vm = &fixture.vm;
    for round in 0..15 {
        soon(vm.start()).await.unwrap();
        let killer = vm.pid().unwrap();
        let stopper = vm.clone();
        let stopping = tokio::spawn(async move {
            // From before to after the end is seen.
            for _ in 0..round * 20 {
                tokio::task::yield_now().await;
            }
            if round % 2 == 0 { stopper.cut().await } else { stopper.stop().await }
        });
        signal(killer, Signal::KILL);
        soon(stopping).await.unwrap().unwrap();
        let after = state(vm).await;
        assert!(matches!(after.phase(), Phase::Off | Phase::Crashed), "round {round}: {after}");
    }
    soon(vm.start()).await.unwrap();
    assert_eq!(state(vm).await, MachineState::Running);
}

/// The guardian of the machine's QEMU, which is its parent.
fn guardian(vm: &Vm) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", vm.pid().unwrap())).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_suspended_guardian_holds_up_nothing() {
    if !can_run() {
        return;
    }
    let fixture = pico_machine(|_| {}).await;
    let vm = &fixture.vm;
    vm.start().await.unwrap();
    signal(guardian(vm), Signal::STOP);
    assert_eq!(soon(vm.cut()).await.unwrap(), StopOutcome::Cut);

    vm.start().await.unwrap();
    let mut console = fixture.logged_in().await;
    signal(guardian(vm), Signal::STOP);
    console.send_line(pico::command::POWER_OFF).await.unwrap();
    assert_eq!(vm.wait_for(Phase::Off, Some(Span::from(SOON))).await.unwrap(), MachineState::Off);
}

/// Attaches to a process as a debugger does, and says so: it neither runs nor can be continued
/// until its end.
const DEBUGGER: &str = "import ctypes, sys, time\n\
                        libc = ctypes.CDLL(None, use_errno=True)\n\
                        assert libc.ptrace(16, int(sys.argv[1]), None, None) == 0\n\
                        print('attached', flush=True)\n\
                        time.sleep(1000)\n";

#[tokio::test]
async fn off_has_a_deadline_when_the_process_is_not_reaped() {
    if !can_run() {
        return;
    }
    let fixture = pico_machine(|config| {
        config.timeouts.shutdown = Span::seconds(1);
        config.timeouts.quit = Span::milliseconds(200);
    })
    .await;
    let vm = &fixture.vm;
    vm.start().await.unwrap();
    let pid = vm.pid().unwrap();
    let debugger = Command::new("python3").args(["-c", DEBUGGER, &guardian(vm).to_string()]);
    let debugger = match debugger.stdout(Sink::Tail(100)).spawn().await {
        Ok(debugger) => debugger,
        Err(error) => return skip(&format!("nothing holds the guardian: {error}")),
    };
    let attached = || !debugger.is_running() || debugger.stdout_tail().contains("attached");
    eventually("a debugger", attached).await;
    if !debugger.is_running() {
        return skip(&format!("nothing holds the guardian: {}", debugger.stderr_tail()));
    }
    let (cut, stopped) = tokio::join!(soon(vm.cut()), soon(vm.stop()));
    for error in [cut.unwrap_err(), stopped.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error:?}");
        assert!(
            error.to_string().contains(&format!("QEMU (process {pid})")) && error.hint().is_some(),
            "{error}"
        );
    }
    assert_eq!(state(vm).await, MachineState::Stopping);

    debugger.stop(StopPlan::new()).await.unwrap();
    soon(vm.cut()).await.unwrap();
    assert_eq!(state(vm).await, MachineState::Off);
    soon(vm.start()).await.unwrap();
}
