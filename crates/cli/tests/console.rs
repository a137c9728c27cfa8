//! `j … start-console` and `j … pipe` on separate terminals and pipes.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/terminal.rs"]
mod terminal;

use jumpstarter_driver_testkit::eventually;
use jumpstarter_supervise::{Child, Command, Input, Signal, Sink, run_unchecked};
use terminal::{DEADLINE, J, JMP, Lab, Terminal, code};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const LAB: &str = "export: {console: {type: serial, config: {url: 'loop://'}}}";

async fn console(terminal: &mut Terminal, lab: &Lab) -> Child {
    let words = [J, "--exporter-config", &lab.file(), "console", "start-console"];
    let child = terminal.bare_command(&words).spawn().await.unwrap();
    terminal.shows("press Ctrl-B three times to leave").await;
    terminal.raw().await;
    child
}

#[tokio::test]
async fn three_times_ctrl_b_leaves() {
    let (mut terminal, lab) = (Terminal::new(), Lab::new(LAB));
    let before = terminal.settings();
    let child = console(&mut terminal, &lab).await;
    terminal.press("\x02\x02 stays \x02");
    terminal.shows("\x02\x02 stays \x02").await;
    assert!(child.is_running() && terminal.is_raw());
    terminal.press("x\x02\x02\x02");
    assert_eq!(code(&child).await, Some(0));
    terminal.shows("Left the console of `console`.").await;
    assert_eq!(terminal.settings(), before);
}

#[tokio::test]
async fn bytes_are_passed_as_they_are() {
    let (mut terminal, lab) = (Terminal::new(), Lab::new(LAB));
    let child = console(&mut terminal, &lab).await;
    let all: Vec<u8> = (0..=255).chain(*b"\n\r\n\x03\x1a\x1c\x04\x11\x13end").collect();
    terminal.press(&all);
    terminal.shows(&all).await;
    terminal.press("\x02\x02\x02");
    assert_eq!(code(&child).await, Some(0));
}

#[tokio::test]
async fn signals_put_the_terminal_back() {
    let lab = Lab::new(LAB);
    let signals =
        [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129), (Signal::QUIT, 131)];
    for (signal, expected) in signals {
        let mut terminal = Terminal::new();
        let before = terminal.settings();
        let child = console(&mut terminal, &lab).await;
        assert_ne!(terminal.settings(), before);
        assert!(child.signal(signal));
        assert_eq!(code(&child).await, Some(expected), "{signal:?}: {}", terminal.text());
        assert_eq!(terminal.settings(), before, "{signal:?}");
    }
}

#[tokio::test]
async fn a_console_that_ends_puts_the_terminal_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("socket://{}", listener.local_addr().unwrap());
    let lab = Lab::new(&format!(
        "export: {{console: {{type: serial, config: {{url: '{url}', reconnect: false}}}}}}"
    ));
    let mut terminal = Terminal::new();
    let before = terminal.settings();
    let child = console(&mut terminal, &lab).await;
    let (mut board, _) = listener.accept().await.unwrap();
    board.write_all(b"login: ").await.unwrap();
    terminal.shows("login: ").await;
    drop(board);
    assert_eq!(code(&child).await, Some(1));
    terminal.shows("error: the console of `console` ended").await;
    assert_eq!(terminal.settings(), before);
}

#[tokio::test]
async fn a_killed_exporter_puts_the_terminal_back_at_once() {
    let lab = Lab::new(LAB);
    let socket = lab.path("socket");
    let (exporter, address) = lab.serve(&["--listen-unix", socket.to_str().unwrap()]).await;
    let mut terminal = Terminal::new();
    let before = terminal.settings();
    let command =
        terminal.bare_command(&[J, "console", "start-console"]).env("JUMPSTARTER_HOST", address);
    let child = command.spawn().await.unwrap();
    terminal.raw().await;
    terminal.press("hello");
    terminal.shows("hello").await;
    exporter.kill();
    let code = code(&child).await;
    assert_eq!(code, Some(3), "{}", terminal.text());
    terminal.shows("error: ").await;
    assert_eq!(terminal.settings(), before);
}

#[tokio::test]
async fn a_terminal_that_is_hung_up_ends_it() {
    let (mut terminal, lab) = (Terminal::new(), Lab::new(LAB));
    let child = console(&mut terminal, &lab).await;
    terminal.hang_up();
    assert_eq!(code(&child).await, Some(129));
}

/// A shell whose command is ended the hard way leaves the terminal as it found it, too.
#[tokio::test]
async fn a_shell_that_is_ended_puts_the_terminal_back() {
    let lab = Lab::new(LAB);
    for signal in [Signal::TERM, Signal::HUP] {
        let terminal = Terminal::new();
        let before = terminal.settings();
        // `sh` ends at the signal and leaves the console behind, which is then killed.
        let script = format!("'{J}' console start-console; true");
        let words = [JMP, "shell", "--exporter-config", &lab.file(), "--", "sh", "-c", &script];
        let child = terminal.bare_command(&words).spawn().await.unwrap();
        terminal.raw().await;
        assert!(child.signal(signal));
        let code = code(&child).await;
        assert!(code.is_some_and(|code| code > 128), "{signal:?}: {code:?}: {}", terminal.text());
        assert_eq!(terminal.settings(), before, "{signal:?}");
    }
}

fn pipe(lab: &Lab, options: &[&str]) -> Command {
    let command = Command::new(J).args(["--exporter-config", &lab.file(), "console", "pipe"]);
    command.args(options).current_dir(lab.folder())
}

#[tokio::test]
async fn a_console_needs_a_terminal() {
    let lab = Lab::new(LAB);
    let command =
        Command::new(J).args(["--exporter-config", &lab.file(), "console", "start-console"]);
    let output = run_unchecked(command, DEADLINE).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(output.stderr, @r"
    error: a console needs a terminal, and standard input is not one
    hint: for scripts there is `pipe`: it copies standard input to the port and its output to a file
    ");
}

#[tokio::test]
async fn piped_input_goes_in_and_output_comes_out() {
    let lab = Lab::new(LAB);
    let bytes: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    // The loop ends when its input does.
    let command = pipe(&lab, &[]).stdin(Input::Bytes(bytes.clone()));
    let output = run_unchecked(command, DEADLINE).await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    assert!(output.stdout == bytes, "{} of {} bytes", output.stdout.len(), bytes.len());
    insta::assert_snapshot!(output.stderr, @r"
    Copying standard input to the port, and the port to standard output; Ctrl-C ends it.
    The port ended.
    ");
}

#[tokio::test]
async fn output_goes_to_a_file_or_its_end() {
    let lab = Lab::new(LAB);
    for (options, expected) in [
        (["-o", "serial.log"].as_slice(), "one"),
        (&["--output", "serial.log"], "one"),
        (&["-o", "serial.log", "-a"], "oneone"),
        (&["--output=serial.log", "--append", "--input"], "oneoneone"),
    ] {
        let output =
            run_unchecked(pipe(&lab, options).stdin(Input::Bytes(b"one".to_vec())), DEADLINE)
                .await
                .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
        assert_eq!(output.stdout_text(), "");
        assert_eq!(
            std::fs::read_to_string(lab.path("serial.log")).unwrap(),
            expected,
            "{options:?}"
        );
    }
}

/// A port on which the test is the board.
async fn board() -> (TcpListener, Lab) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("socket://{}", listener.local_addr().unwrap());
    (
        listener,
        Lab::new(&format!(
            "export: {{console: {{type: serial, config: {{url: '{url}', reconnect: false}}}}}}"
        )),
    )
}

#[tokio::test]
async fn without_output_it_ends_with_its_input() {
    let (listener, lab) = board().await;
    let command = pipe(&lab, &["--no-output"]).stdin(Input::Bytes(b"reboot\n".to_vec()));
    let running = tokio::spawn(run_unchecked(command, DEADLINE));
    let (mut board, _) = listener.accept().await.unwrap();
    let mut got = Vec::new();
    board.read_to_end(&mut got).await.unwrap();
    assert_eq!(String::from_utf8(got).unwrap(), "reboot\n");
    drop(board);
    let output = running.await.unwrap().unwrap();
    assert_eq!(
        (output.status.code(), output.stdout_text().as_str()),
        (Some(0), ""),
        "{}",
        output.stderr
    );
}

#[tokio::test]
async fn without_input_nothing_is_sent_and_ctrl_c_ends_it() {
    let (listener, lab) = board().await;
    let command =
        pipe(&lab, &["--no-input", "-o", "serial.log"]).stdin(Input::Bytes(b"not sent".to_vec()));
    let child = command.stderr(Sink::Tail(4096)).spawn().await.unwrap();
    let (mut board, _) = listener.accept().await.unwrap();
    board.write_all(b"booting").await.unwrap();
    let log = lab.path("serial.log");
    eventually("the log", || std::fs::read(&log).unwrap_or_default() == b"booting").await;
    child.signal(Signal::INT);
    assert_eq!(code(&child).await, Some(0));
    assert!(child.stderr_tail().ends_with("Stopped.\n"), "{}", child.stderr_tail());
    let mut got = Vec::new();
    board.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"");
}

#[tokio::test]
async fn options_that_do_not_fit_together() {
    let lab = Lab::new(LAB);
    for options in [
        ["--input", "--no-input"].as_slice(),
        &["--no-output", "-o", "x"],
        &["--no-output", "--no-input"],
        &["--append"],
    ] {
        let output = run_unchecked(pipe(&lab, options), DEADLINE).await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{options:?}: {}", output.stderr);
    }
    // A terminal is not copied unless it is asked for, so there is nothing to do.
    let mut terminal = Terminal::new();
    let words = [J, "--exporter-config", &lab.file(), "console", "pipe", "--no-output"];
    let child = terminal.bare_command(&words).spawn().await.unwrap();
    assert_eq!(code(&child).await, Some(2));
    terminal.shows("with --no-output there is nothing to do").await;
}
