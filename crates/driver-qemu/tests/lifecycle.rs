//! The life of a machine, on real QEMU with the pico guest.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{SOON, ask, can_run, config, is_alive, log_in, pico_machine};
use futures_util::StreamExt;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_qemu::{
    Machine, MachineState, OffMode, Phase, Qemu, QemuDriver, StopOutcome, Vm,
};
use jumpstarter_driver_testkit::{pico, reserve_port};

async fn state(vm: &Vm) -> MachineState {
    vm.state().await.unwrap()
}

#[tokio::test]
async fn on_log_in_and_graceful_stop() {
    if !can_run() {
        return;
    }
    let fixture = pico_machine(|_| {}).await;
    let vm = &fixture.vm;
    assert_eq!(state(vm).await, MachineState::Off);
    let begun = std::time::Instant::now();
    vm.start().await.unwrap();
    assert_eq!(state(vm).await, MachineState::Running);
    vm.start().await.unwrap();
    let mut console = fixture.logged_in().await;
    // Under a second on an idle host; on a busy one it says nothing.
    eprintln!("from power-on to a prompt: {:?}", begun.elapsed());
    ask(&mut console, "mem", "mem 64 MiB").await;
    let pid = vm.pid().unwrap();
    assert_eq!(vm.stop().await.unwrap(), StopOutcome::Graceful);
    assert_eq!(state(vm).await, MachineState::Off);
    assert!(!is_alive(pid));
    assert_eq!(vm.stop().await.unwrap(), StopOutcome::AlreadyOff);
    assert_eq!(vm.cut().await.unwrap(), StopOutcome::AlreadyOff);
}

#[tokio::test]
async fn a_guest_that_ignores_the_button_is_cut() {
    if !can_run() {
        return;
    }
    let fixture = pico_machine(|config| config.timeouts.shutdown = Span::seconds(1)).await;
    fixture.vm.start().await.unwrap();
    let mut console = fixture.logged_in().await;
    ask(&mut console, pico::command::IGNORE_POWER_BUTTON, pico::IGNORE_LINE).await;
    assert_eq!(fixture.vm.stop().await.unwrap(), StopOutcome::Cut);
    assert_eq!(state(&fixture.vm).await, MachineState::Off);
}

#[tokio::test]
async fn on_works_again_after_a_power_off_by_the_guest_and_after_a_crash() {
    if !can_run() {
        return;
    }
    let fixture = pico_machine(|_| {}).await;
    let vm = &fixture.vm;
    vm.start().await.unwrap();
    let mut console = fixture.logged_in().await;
    console.send_line(pico::command::POWER_OFF).await.unwrap();
    assert_eq!(vm.wait_for(Phase::Off, None).await.unwrap(), MachineState::Off);

    vm.start().await.unwrap();
    log_in(&mut console).await;
    let pid = i32::try_from(vm.pid().unwrap()).unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::SEGV,
    )
    .unwrap();
    let MachineState::Crashed { why } = vm.wait_for(Phase::Crashed, None).await.unwrap() else {
        unreachable!()
    };
    assert!(why.contains("SIGSEGV"), "{why}");

    vm.start().await.unwrap();
    log_in(&mut console).await;
    console.send_line(pico::command::PANIC).await.unwrap();
    let MachineState::Crashed { why } = vm.wait_for(Phase::Crashed, None).await.unwrap() else {
        unreachable!()
    };
    assert!(why.contains("panicked"), "{why}");

    vm.start().await.unwrap();
    log_in(&mut console).await;
    vm.cut().await.unwrap();
    assert_eq!(state(vm).await, MachineState::Off);
}

#[tokio::test]
async fn pause_resume_reset_and_their_events() {
    if !can_run() {
        return;
    }
    let fixture = pico_machine(|_| {}).await;
    let vm = &fixture.vm;
    let mut events = vm.events().await.unwrap();
    vm.start().await.unwrap();
    let mut console = fixture.logged_in().await;
    vm.pause().await.unwrap();
    vm.pause().await.unwrap();
    assert_eq!(state(vm).await, MachineState::PAUSED);
    vm.start().await.unwrap();
    assert_eq!(state(vm).await, MachineState::PAUSED);
    vm.resume().await.unwrap();
    vm.resume().await.unwrap();
    assert_eq!(state(vm).await, MachineState::Running);
    ask(&mut console, "echo awake", "awake").await;
    Machine::reset(vm).await.unwrap();
    log_in(&mut console).await;
    vm.pause().await.unwrap();
    assert_eq!(vm.stop().await.unwrap(), StopOutcome::Graceful);

    let mut seen = Vec::new();
    loop {
        let event = tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap().unwrap();
        let ended = event.name == "STATE" && event.state == MachineState::Off;
        seen.push(event.name);
        if ended {
            break;
        }
    }
    for name in ["STOP", "RESUME", "RESET", "POWERDOWN", "SHUTDOWN"] {
        assert!(seen.iter().any(|seen| seen == name), "{name} is not in {seen:?}");
    }
}

#[tokio::test]
async fn what_needs_a_running_machine_is_refused_when_it_is_off() {
    if !can_run() {
        return;
    }
    let fixture = pico_machine(|_| {}).await;
    let vm = &fixture.vm;
    for error in [
        vm.pause().await.unwrap_err(),
        vm.resume().await.unwrap_err(),
        Machine::reset(vm).await.unwrap_err(),
        vm.power_button().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(error.report().contains("it is off"), "{error:?}");
    }
    let late = vm.wait_for(Phase::Running, Some(Span::milliseconds(10))).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::DeadlineExceeded);
}

#[tokio::test]
async fn on_and_off_raced_end_in_one_machine_or_none() {
    if !can_run() {
        return;
    }
    let fixture = pico_machine(|_| {}).await;
    let mut racers = Vec::new();
    for number in 0..12 {
        let vm = fixture.vm.clone();
        racers.push(tokio::spawn(async move {
            if number % 2 == 0 { vm.start().await } else { vm.cut().await.map(drop) }
        }));
    }
    for racer in racers {
        tokio::time::timeout(SOON, racer).await.unwrap().unwrap().unwrap();
    }
    match state(&fixture.vm).await {
        MachineState::Off => assert_eq!(fixture.vm.pid(), None),
        MachineState::Running => assert!(is_alive(fixture.vm.pid().unwrap())),
        other => panic!("{other}"),
    }
    fixture.vm.cut().await.unwrap();
    assert_eq!(state(&fixture.vm).await, MachineState::Off);
}

#[tokio::test]
async fn a_cancelled_start_leaves_nothing_and_can_be_repeated() {
    if !can_run() {
        return;
    }
    let fixture = pico_machine(|_| {}).await;
    for polls in 0..40 {
        let mut start = Box::pin(fixture.vm.start());
        for _ in 0..polls {
            tokio::select! {
                biased;
                _ = &mut start => break,
                () = tokio::task::yield_now() => {}
            }
        }
        drop(start);
        fixture.vm.cut().await.unwrap();
        assert_eq!(state(&fixture.vm).await, MachineState::Off, "after {polls} polls");
    }
    fixture.vm.start().await.unwrap();
    fixture.logged_in().await;
}

#[tokio::test]
async fn a_qemu_that_dies_at_once_is_an_error_with_its_words() {
    if !can_run() {
        return;
    }
    let fixture = pico_machine(|config| config.extra_args = vec!["-no-such-option".into()]).await;
    let error = fixture.vm.start().await.unwrap_err();
    assert!(error.report().contains("no-such-option: invalid option"), "{error:?}");
    assert_eq!(state(&fixture.vm).await, MachineState::Off);

    let port = reserve_port();
    let holder = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let fixture = pico_machine(|config| {
        let forward = serde_json::json!({"web": {"hostport": port, "guestport": 80}});
        config.hostfwd = serde_json::from_value(forward).unwrap();
    })
    .await;
    let error = fixture.vm.start().await.unwrap_err();
    assert!(
        error.report().contains("hostfwd `web`: another program listens on 127.0.0.1:"),
        "{error:?}"
    );
    drop(holder);
    fixture.vm.start().await.unwrap();
}

#[tokio::test]
async fn a_missing_image_is_named() {
    if !can_run() {
        return;
    }
    let vm = Vm::create("none", config("/nonexistent/os.img")).await.unwrap();
    let error = vm.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.report().contains("/nonexistent/os.img"), "{error:?}");
}

#[tokio::test]
async fn names_destroy_and_what_it_removes() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("pico.img");
    pico::write_to(&image).unwrap();
    let driver = QemuDriver::new();
    let vm = driver.create_vm("myvm", config(&image)).await.unwrap();
    let twice = driver.create_vm("myvm", config(&image)).await.unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::AlreadyExists);
    vm.start().await.unwrap();
    let (pid, socket) = (vm.pid().unwrap(), vm.vnc_path());
    assert!(socket.exists());
    vm.destroy().await.unwrap();
    vm.destroy().await.unwrap();
    assert!(!is_alive(pid));
    assert!(!socket.parent().unwrap().exists());
    assert!(image.exists());
    assert_eq!(vm.start().await.unwrap_err().kind(), ErrorKind::FailedPrecondition);
    let again = driver.create_vm("myvm", config(&image)).await.unwrap();
    drop(again);
    driver.create_vm("myvm", config(&image)).await.unwrap();
}

#[tokio::test]
async fn dropping_the_last_handle_kills_and_removes() {
    if !can_run() {
        return;
    }
    let fixture = pico_machine(|_| {}).await;
    fixture.vm.start().await.unwrap();
    let (pid, folder) =
        (fixture.vm.pid().unwrap(), fixture.vm.vnc_path().parent().unwrap().to_owned());
    drop(fixture);
    tokio::time::timeout(SOON, async {
        // A thread removes the folder.
        while is_alive(pid) || folder.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn off_can_be_graceful_by_configuration_and_readings_tell_the_power() {
    if !can_run() {
        return;
    }
    let fixture = pico_machine(|config| config.off = OffMode::Graceful).await;
    let device = Device::of_driver(Qemu::new(fixture.vm.clone()));
    let power = device.get::<dyn Power>("power").unwrap();
    let mut readings = power.read().await.unwrap();
    assert_eq!(readings.next().await.unwrap().unwrap().voltage, 0.0);
    assert!(
        tokio::time::timeout(SOON, readings.next()).await.unwrap().is_none(),
        "one reading, then the end"
    );
    power.on().await.unwrap();
    power.on().await.unwrap();
    let mut events = fixture.vm.events().await.unwrap();
    fixture.logged_in().await;
    let readings: Vec<_> = power.read().await.unwrap().collect().await;
    let [Ok(reading)] = readings.as_slice() else { panic!("{readings:?}") };
    assert_eq!(reading.voltage, 1.0);
    assert!(reading.current > 0.0, "booting takes processor time: {reading:?}");
    // Asked again at once: not divided by nothing.
    let again = power.read().await.unwrap().next().await.unwrap().unwrap();
    assert!(again.current.is_finite() && again.current >= 0.0, "{again:?}");
    power.off().await.unwrap();
    let mut names = Vec::new();
    while let Some(Ok(event)) = events.next().await {
        names.push(event.name.clone());
        if event.state == MachineState::Off {
            break;
        }
    }
    assert!(names.contains(&"POWERDOWN".to_owned()), "{names:?}");
    device.close().await.unwrap();
}

#[tokio::test]
async fn errors_quote_this_power_cycle_alone() {
    if !can_run() {
        return;
    }
    let fixture = pico_machine(|_| {}).await;
    let vm = &fixture.vm;
    let device = Device::of_driver(Qemu::new(vm.clone()));
    let moment = Some(Span::milliseconds(1));
    vm.start().await.unwrap();
    let mut console = fixture.logged_in().await;
    ask(&mut console, &pico::command::read(pico::LAST_SECTOR), pico::LAST_TEXT).await;
    let error = vm.wait_for(Phase::Crashed, moment).await.unwrap_err();
    assert!(error.to_string().contains(pico::LAST_TEXT), "{error}");

    vm.cut().await.unwrap();
    let error = vm.wait_for(Phase::Running, moment).await.unwrap_err();
    assert!(!error.to_string().contains("last lines"), "it is off: {error}");
    vm.start().await.unwrap();
    for reset in [false, true] {
        if reset {
            // As between two leases.
            fixture.logged_in().await;
            device.reset().await.unwrap();
            let mut next = fixture.console();
            vm.start().await.unwrap();
            log_in(&mut next).await;
            assert!(
                !next.transcript_text().contains(pico::LAST_TEXT),
                "{}",
                next.transcript_text()
            );
        }
        let error = vm.wait_for(Phase::Crashed, moment).await.unwrap_err();
        assert!(!error.to_string().contains(pico::LAST_TEXT), "reset: {reset}: {error}");
    }
}
