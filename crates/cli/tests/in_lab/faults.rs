//! A controller, a router or a token that fails, as a user of a shell sees it.

use jumpstarter_supervise::{Input, Signal, Sink};
use jumpstarter_test_controller::{Answer, Code, Kind, Rule};
use tokio::io::AsyncWriteExt;

use crate::bench::Lab;
use crate::lab::{eventually, jmp, line, start};
use crate::terminal::code;

const DEVICE: &str = "{power: {type: mock-power}}";

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_is_refused_is_an_error_with_the_lease() {
    let lab = Lab::start("").await;
    let refused = Answer::Refuse(Code::Unknown, "permission denied".to_owned());
    lab.controller.add_rule(Rule::new("DeleteLease", refused));
    let (code, _, err) = lab.shell(&["-l", "board=mock", "--", "true"]).await;
    assert_eq!(code, Some(1), "{err}");
    let name = lab.controller.leases(true).remove(0);
    assert!(err.contains(&format!("releasing the lease {name}")), "{err}");
    assert!(err.contains(&format!("`jmp delete leases {name}`")), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_waits_for_its_controller() {
    let lab = Lab::start("").await;
    let away = Answer::Refuse(Code::Unavailable, "connection reset".to_owned());
    lab.controller.add_rule(Rule::new("DeleteLease", away).times(2));
    let (code, _, err) = lab.shell(&["-l", "board=mock", "--", "true"]).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    lab.has_only(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_says_what_to_do() {
    let lab = Lab::start("").await;
    let bad = lab.controller.client_file_with("c1", "not.a.token");
    let expired = lab.controller.token_with_life(Kind::Client, "c1", -60);
    let expired = lab.controller.client_file_with("c1", &expired);
    for (file, hint) in [(bad, "`jmp login`"), (expired, "Ask the administrator")] {
        std::fs::write(lab.folder.path().join("client.yaml"), file).unwrap();
        for (words, parts) in
            [(&["shell", "-l", "board=mock", "true"][..], 1), (&["get", "leases"], 2)]
        {
            let (code, out, err) = lab.run(words, parts).await;
            assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
            assert!(err.contains("hint: ") && err.contains(hint), "{words:?}: {err}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exporter_whose_token_stays_refused_ends_with_4() {
    let lab = Lab::start("").await;
    let expired = lab.controller.token_with_life(Kind::Exporter, "e1", -60);
    let refused_from_the_start = lab.controller.exporter_file_with("e1", &expired, DEVICE);
    let refused_later = lab.controller.exporter_file("e1", DEVICE);
    for (file, is_later) in [(refused_from_the_start, false), (refused_later, true)] {
        let path = lab.folder.path().join("refused.yaml");
        std::fs::write(&path, file).unwrap();
        let joined = lab.controller.calls_of("Status", "e1");
        let words = ["run", "--token-patience", "1s", path.to_str().unwrap()];
        let exporter = jmp(&words).stdout(Sink::Null).stderr(Sink::Tail(1 << 16));
        let exporter = exporter.spawn().await.unwrap();
        if is_later {
            let is_joined = || lab.controller.calls_of("Status", "e1") > joined;
            eventually("it joins", async || is_joined().then_some(())).await;
            lab.controller.add_rule(Rule::expired_token("e1"));
            lab.controller.end_status_streams(None, None);
        }
        assert_eq!(code(&exporter).await, Some(4), "{}", exporter.stderr_tail());
        let said = exporter.stderr_tail();
        assert_eq!(said.matches("ERROR").count(), 1, "one line of the log: {said}");
        assert!(said.contains("the token has expired: write a new one"), "{said}");
        assert!(said.contains("error: the controller refuses the exporter"), "{said}");
        assert!(said.contains("hint: get a new token from who runs the lab"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_outlives_an_outage_of_the_controller_and_a_restart_of_the_router() {
    let lab = Lab::start("").await;
    // Each line on standard input is one use of the device.
    let script = "while read line; do j power on && echo used; done; exit 7";
    let words = ["shell", "-l", "board=mock", "--", "sh", "-c", script];
    let (shell, mut lines) = start(lab.command(&words, 1).stdin(Input::Piped)).await;
    let mut input = shell.take_stdin().unwrap();
    let mut use_it = async || input.write_all(b"\n").await.unwrap();
    use_it().await;
    assert_eq!(line(&mut lines, &shell).await, "used");
    // What went through the router breaks; the next call has a new tunnel.
    lab.controller.router().down().await;
    lab.controller.router().up().await;
    use_it().await;
    assert_eq!(line(&mut lines, &shell).await, "used");
    // A dial waits for the controller.
    lab.controller.controller().down().await;
    use_it().await;
    let early = tokio::time::timeout(std::time::Duration::from_secs(1), lines.next_line()).await;
    assert!(early.is_err(), "the controller is away");
    lab.controller.controller().up().await;
    assert_eq!(line(&mut lines, &shell).await, "used");
    drop(input);
    assert_eq!(code(&shell).await, Some(7), "{}", shell.stderr_tail());
    lab.has_only(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_cannot_be_dialled_is_reported_once() {
    let lab = Lab::start("").await;
    let script = "echo ready; read line; j power on; echo done";
    let words = ["shell", "-l", "board=mock", "--", "sh", "-c", script];
    let (shell, mut lines) = start(lab.command(&words, 1).stdin(Input::Piped)).await;
    assert_eq!(line(&mut lines, &shell).await, "ready");
    let refused = Answer::Refuse(Code::Unknown, "permission denied".to_owned());
    lab.controller.add_rule(Rule::new("Dial", refused));
    let dials = lab.controller.calls_of("Dial", "c1");
    let mut input = shell.take_stdin().unwrap();
    input.write_all(b"\n").await.unwrap();
    // `j` connects again and again, for some seconds.
    assert_eq!(line(&mut lines, &shell).await, "done");
    assert_eq!(code(&shell).await, Some(0), "{}", shell.stderr_tail());
    let said = shell.stderr_tail();
    assert_eq!(said.matches("a connection to the exporter failed").count(), 1, "{said}");
    let dials = lab.controller.calls_of("Dial", "c1") - dials;
    assert!((1..20).contains(&dials), "{dials} dials");
}

#[tokio::test(flavor = "multi_thread")]
async fn five_minutes_before_the_end_one_line_says_so() {
    let lab = Lab::start("").await;
    // By the controller's clock: by the client's the lease is over from the beginning.
    lab.controller.set_clock_skew(-3600);
    let words = ["shell", "-l", "board=mock", "--duration", "4m", "--", "cat"];
    let command = lab.command(&words, 1).stdin(Input::Piped);
    let shell = command.stderr(Sink::Tail(1 << 16)).spawn().await.unwrap();
    let input = shell.take_stdin().unwrap();
    let notice = "The lease ends in 4 minutes.";
    eventually(notice, async || shell.stderr_tail().contains(notice).then_some(())).await;
    drop(input);
    assert_eq!(code(&shell).await, Some(0), "{}", shell.stderr_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_sees_its_lease() {
    let lab = Lab::start("").await;
    let script = "echo $JMP_LEASE $JMP_EXPORTER $JMP_EXPORTER_LABELS";
    let (code, out, err) = lab.shell(&["-l", "board=mock", "--", "sh", "-c", script]).await;
    assert_eq!(code, Some(0), "{err}");
    let name = lab.controller.leases(false).remove(0);
    assert_eq!(out, format!("{name} e1 board=mock,jumpstarter.dev/name=e1\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_before_the_command_gives_the_device_back() {
    let hooks = "hooks:\n  beforeLease: {script: 'echo BEFORE; sleep 60', timeout: 90}\n";
    let lab = Lab::start(hooks).await;
    let shell = lab.command(&["shell", "-l", "board=mock", "true"], 1);
    let shell = shell.stderr(Sink::Tail(1 << 16)).spawn().await.unwrap();
    eventually("the hook runs", async || shell.stderr_tail().contains("BEFORE").then_some(()))
        .await;
    shell.signal(Signal::INT);
    assert_eq!(code(&shell).await, Some(1), "{}", shell.stderr_tail());
    lab.has_only(&[]).await;
}
