//! `jmp shell`, local and remote.

use insta::assert_snapshot;
use jumpstarter_supervise::{Signal, run_unchecked};

use crate::lab::{Bench, EVERYTHING, clean, eventually, jmp, transcript};
use crate::terminal::{DEADLINE, J, Lab, Terminal, code};

async fn said(lab: &Lab, words: &[&str]) -> String {
    let output = run_unchecked(jmp(words).current_dir(lab.folder()), DEADLINE).await.unwrap();
    lab.plain(&transcript(&output))
}

#[tokio::test]
async fn a_command_reaches_the_device_of_a_file() {
    let lab = Lab::new(EVERYTHING);
    let words = ["shell", "--exporter-config", "lab.yaml", "--", J, "call", "rack.web", "address"];
    assert_snapshot!(said(&lab, &words).await, @"tcp://127.0.0.1:4711");
}

#[tokio::test]
async fn its_exit_code_is_that_of_the_command() {
    let lab = Lab::new(EVERYTHING);
    let shell = ["shell", "--exporter-config", "lab.yaml", "--"];
    let run = async |words: &[&str]| said(&lab, &[shell.as_slice(), words].concat()).await;
    assert_snapshot!(run(&["sh", "-c", "exit 7"]).await, @"--- exit code 7");
    assert_snapshot!(run(&["sh", "-c", "kill -9 $$"]).await, @"--- exit code 137");
    assert_snapshot!(run(&["no-such-program"]).await, @r"
    --- stderr
    error: running the command: cannot run `no-such-program`: there is no such program in PATH
    hint: install it, or add its folder to PATH
    --- exit code 1
    ");
    assert_snapshot!(run(&[J, "pwoer", "on"]).await, @r"
    --- stderr
    error: this device has no `pwoer`
    hint: did you mean `power`? There are `power`, `echo`, `console`, `flasher`, `rack`, `switch`, `tree`, `call`, `stream`, `log`, `status`, `reset` and `completions`
    --- exit code 2
    ");
}

/// As upstream's commands are written.
#[tokio::test]
async fn a_command_needs_no_dashes_and_keeps_its_own_options() {
    let lab = Lab::new(EVERYTHING);
    let shell = ["--log-level", "ERROR", "shell", "--exporter-config", "lab.yaml"];
    let run = async |words: &[&str]| said(&lab, &[shell.as_slice(), words].concat()).await;
    assert_snapshot!(run(&[J, "rack.web", "address", "--port"]).await, @"4711");
    assert_snapshot!(run(&["echo", "--exporter-logs", "--", "-x", "--help"]).await, @"--exporter-logs -- -x --help");
    assert_snapshot!(run(&["--exporter-logs", "--", "echo", "a", "--", "b"]).await, @"a -- b");
    assert_snapshot!(run(&["--exporter-lgos", "true"]).await, @r"
    --- stderr
    error: unexpected argument '--exporter-lgos' found

      tip: a similar argument exists: '--exporter-logs'

    Usage: jmp shell --exporter-config <FILE> --exporter-logs [COMMAND]...

    For more information, try '--help'.
    --- exit code 2
    ");
}

#[tokio::test]
async fn the_environment_says_what_the_device_is() {
    let names = "JMP_EXPORTER JMP_LEASE JMP_EXPORTER_LABELS JMP_DRIVERS_ALLOW _JMP_SUPPRESS_DRIVER_WARNINGS \
                 JUMPSTARTER_GRPC_INSECURE JMP_GRPC_INSECURE";
    let script = format!("for name in {names}; do eval \"echo $name=\\${{$name-unset}}\"; done");
    let inherited = [
        ("JMP_EXPORTER", "other"),
        ("JMP_LEASE", "other"),
        ("JMP_EXPORTER_LABELS", "a=b"),
        ("JUMPSTARTER_GRPC_INSECURE", "1"),
    ];
    let bench = Bench::everything().await;
    let file = bench.lab.file();
    for way in [["--exporter-config", &file], ["--tls-grpc", &bench.host]] {
        let command = jmp(&["shell", way[0], way[1], "sh", "-c", &script]);
        let command =
            inherited.iter().fold(command, |command, (name, value)| command.env(name, value));
        let said = bench.run(command).await;
        assert_eq!(
            said.split_whitespace().collect::<Vec<_>>(),
            [
                "JMP_EXPORTER=lab",
                "JMP_LEASE=unset",
                "JMP_EXPORTER_LABELS=unset",
                "JMP_DRIVERS_ALLOW=UNSAFE",
                "_JMP_SUPPRESS_DRIVER_WARNINGS=1",
                "JUMPSTARTER_GRPC_INSECURE=unset",
                "JMP_GRPC_INSECURE=unset",
            ]
        );
    }
}

/// The older name of JMP_GRPC_INSECURE counts for `j`; `jmp shell` goes by its option alone, as
/// upstream's.
#[tokio::test]
async fn the_older_name_of_the_plaintext_variable() {
    let lab = Lab::new(EVERYTHING);
    let (exporter, host) =
        lab.serve(&["--tls-grpc-listener", "127.0.0.1:0", "--tls-grpc-insecure"]).await;
    let host = host.trim_start_matches("tcp://");
    let run = async |command: jumpstarter_supervise::Command| {
        run_unchecked(command.env("JUMPSTARTER_GRPC_INSECURE", "1"), DEADLINE).await.unwrap()
    };
    let j = clean(jumpstarter_supervise::Command::new(J))
        .args(["power", "on"])
        .env("JUMPSTARTER_HOST", host);
    let said = run(j).await;
    assert!(said.status.success(), "{}", said.stderr);
    let said = run(jmp(&["shell", "--tls-grpc", host, "true"])).await;
    assert!(
        !said.status.success() && said.stderr.contains("--tls-grpc-insecure"),
        "{}",
        said.stderr
    );
    let said =
        run(jmp(&["shell", "--tls-grpc", host, "--tls-grpc-insecure", J, "power", "on"])).await;
    assert!(said.status.success(), "{}", said.stderr);
    drop(exporter);
}

#[tokio::test]
async fn what_only_a_controller_has_is_said() {
    let lab = Lab::new(EVERYTHING);
    // Beside another way to a device they have no effect, as upstream.
    let words =
        ["shell", "-n", "x", "--exporter-config", "lab.yaml", "--retry-timeout", "0", "true"];
    assert_snapshot!(said(&lab, &words).await, @r"
    --- stderr
    warning: `--name` and `--retry-timeout` only work with a controller, and have no effect here
    ");
}

#[tokio::test]
async fn the_log_is_shown_when_it_is_wanted() {
    let lab = Lab::new(EVERYTHING);
    let words =
        ["shell", "--exporter-config", "lab.yaml", "--exporter-logs", "--", J, "power", "on"];
    let shown = said(&lab, &words).await;
    assert!(shown.contains("power: power on"), "{shown}");
    let words = ["shell", "--exporter-config", "lab.yaml", "--", J, "power", "on"];
    assert_eq!(said(&lab, &words).await, "");
}

#[tokio::test]
async fn the_log_of_an_exporter_elsewhere_is_shown_too() {
    let bench = Bench::everything().await;
    let words = ["shell", "--tls-grpc", &bench.host, "--exporter-logs", "--", J, "power", "on"];
    let shown = said(&bench.lab, &words).await;
    assert!(shown.contains("power: power on"), "{shown}");
}

/// The command may go elsewhere: the socket's path must not depend on where the shell was started.
#[tokio::test]
async fn a_relative_socket_is_found_from_any_folder() {
    let bench = Bench::everything().await;
    let script = format!("cd / && '{J}' call rack.web address");
    let words = ["shell", "--tls-grpc", "./s", "--", "sh", "-c", &script];
    assert_snapshot!(said(&bench.lab, &words).await, @"tcp://127.0.0.1:4711");
}

#[tokio::test]
async fn an_interactive_shell_has_the_name_in_its_prompt_and_says_the_motd() {
    let lab = Lab::new(EVERYTHING);
    for shell in ["/bin/bash", "/bin/sh"] {
        let mut terminal = Terminal::new();
        let words = [crate::terminal::JMP, "shell", "--exporter-config", &lab.file()];
        let child = terminal.command(&words).env("SHELL", shell).spawn().await.unwrap();
        terminal.shows("Mind the relay.").await;
        terminal.shows("⚡").await;
        terminal.shows("lab ").await;
        terminal.press(format!("'{J}' call rack.web address\r"));
        terminal.shows("tcp://127.0.0.1:4711").await;
        terminal.press("exit 5\r");
        assert_eq!(code(&child).await, Some(5), "{}", terminal.text());
    }
}

#[tokio::test]
async fn an_exporter_that_dies_under_a_shell_is_told_at_once() {
    let bench = Bench::everything().await;
    let ready = bench.lab.path("ready");
    let script = format!("touch {}; exec sleep 600", ready.display());
    let words = ["shell", "--tls-grpc", &bench.host, "--", "sh", "-c", &script];
    let child = jmp(&words).stderr(jumpstarter_supervise::Sink::Tail(65536)).spawn().await.unwrap();
    eventually("the command runs", async || ready.exists().then_some(())).await;
    bench.exporter.kill();
    eventually("it is reported", async || child.stderr_tail().contains("hint").then_some(())).await;
    assert_snapshot!(bench.lab.plain(&child.stderr_tail()), @r"
    error: the exporter at s went away
    hint: connect again when it is back: it has ended, or the network to it failed
    ");
    // The command is the user's own: it goes on until it is ended.
    assert!(child.is_running());
    child.signal(Signal::TERM);
    assert_eq!(code(&child).await, Some(143));
}

#[tokio::test]
async fn wrong_shells() {
    let lab = Lab::new(EVERYTHING);
    assert_snapshot!(said(&lab, &["shell", "--", "true"]).await, @r"
    --- stderr
    error: which device?
    hint: add --exporter-config FILE or --exporter ALIAS
    --- exit code 2
    ");
    assert_snapshot!(said(&lab, &["shell", "lab.yaml", "true"]).await, @r"
    --- stderr
    error: which device?
    hint: write `jmp shell --exporter-config lab.yaml`, and the command after it
    --- exit code 2
    ");
    assert_snapshot!(said(&lab, &["shell", "--exporter-config", "no.yaml", "--", "true"]).await, @r"
    --- stderr
    no.yaml: cannot be read: No such file or directory (os error 2)
    --- exit code 1
    ");
    assert_snapshot!(said(&lab, &["shell", "--tls-grpc", "./none", "--", "true"]).await, @r"
    --- stderr
    error: there is no socket ./none
    hint: start the exporter: it creates the socket
    --- exit code 1
    ");
    assert_snapshot!(said(&lab, &["shell", "--tls-grpc-insecure", "--", "true"]).await, @r"
    --- stderr
    error: the following required arguments were not provided:
      --tls-grpc <HOST:PORT>

    Usage: jmp shell --tls-grpc <HOST:PORT> --tls-grpc-insecure <COMMAND>...

    For more information, try '--help'.
    --- exit code 2
    ");
}
