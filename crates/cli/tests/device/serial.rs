//! `j … pipe` over an exporter.

use insta::assert_snapshot;
use jumpstarter_supervise::{Input, Sink, run_unchecked};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::lab::Bench;
use crate::terminal::{DEADLINE, code};

/// An exporter with a slow port; the test is the board at its end.
async fn slow_board(characters_per_second: u32) -> (TcpListener, Bench) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("socket://{}", listener.local_addr().unwrap());
    let config = format!("{{url: '{url}', cps: {characters_per_second}, reconnect: false}}");
    let bench =
        Bench::of(&format!("export: {{console: {{type: serial, config: {config}}}}}")).await;
    (listener, bench)
}

#[tokio::test]
async fn a_loop_gives_back_what_is_piped_in() {
    let bench = Bench::everything().await;
    assert_snapshot!(bench.j_with(&["console", "pipe"], b"there and back\n").await, @r"
    there and back
    --- stderr
    Copying standard input to the port, and the port to standard output; Ctrl-C ends it.
    The port ended.
    ");
}

/// Everything is queued at once, and the port takes three seconds for it.
#[tokio::test]
async fn a_slow_port_gets_all_of_a_large_file() {
    let (listener, bench) = slow_board(20_000).await;
    let bytes: Vec<u8> = (0..=255).cycle().take(60_000).collect();
    let command =
        bench.command(&["console", "pipe", "--no-output"]).stdin(Input::Bytes(bytes.clone()));
    let running = tokio::spawn(run_unchecked(command, DEADLINE));
    let (mut board, _) = listener.accept().await.unwrap();
    let mut got = Vec::new();
    board.read_to_end(&mut got).await.unwrap();
    let output = running.await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    assert!(got == bytes, "{} of {} bytes", got.len(), bytes.len());
}

#[tokio::test]
async fn a_port_that_does_not_take_all_is_a_failure() {
    let (listener, bench) = slow_board(20_000).await;
    let command =
        bench.command(&["console", "pipe", "--no-output"]).stdin(Input::Bytes(vec![b'x'; 200_000]));
    let running = tokio::spawn(run_unchecked(command, DEADLINE));
    let (mut board, _) = listener.accept().await.unwrap();
    let mut got = [0; 100];
    board.read_exact(&mut got).await.unwrap();
    drop(board);
    let output = running.await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", output.stderr);
    assert!(output.stderr.contains("error: "), "{}", output.stderr);
}

/// The board stops listening, and says why.
#[tokio::test]
async fn what_a_board_says_last_is_shown() {
    let (listener, bench) = slow_board(1_000_000).await;
    let child = bench
        .command(&["stream", "console"])
        .stdin(Input::Bytes(vec![b'x'; 4_000_000]))
        .stdout(Sink::Tail(4096))
        .spawn()
        .await
        .unwrap();
    let (mut board, _) = listener.accept().await.unwrap();
    let mut got = [0; 100];
    board.read_exact(&mut got).await.unwrap();
    board.write_all(b"too much\n").await.unwrap();
    drop(board);
    code(&child).await;
    assert_eq!(child.stdout_tail(), "too much\n", "{}", child.stderr_tail());
}

#[tokio::test]
async fn a_script_prints_its_captures_or_says_which_step_failed() {
    let bench = Bench::everything().await;
    let write = |name: &str, text: &str| std::fs::write(bench.lab.path(name), text).unwrap();
    // The port gives back what it gets.
    write(
        "good.yaml",
        r#"
- line: U-Boot 2023.01
- expect:
  - 'login: '
  - regex: 'U-Boot (?<version>\S+)\r'
- send: "esc \e[0m"
- expect: {regex: '(?s)(?<escape>esc.*m)'}
"#,
    );
    write("late.yaml", "- line: hello\n- expect: never\n  within: 5s\n");
    write("wrong.yaml", "- line: hello\n- exspect: never\n");
    let file = |name: &str| bench.lab.path(name).display().to_string();
    let run = async |words: &[&str]| bench.j_with(words, b"").await;
    assert_snapshot!(run(&["console", "script", &file("good.yaml")]).await, @r#"
    escape=esc \u{1b}[0m
    version=2023.01
    "#);
    let transcript = file("seen");
    let words = ["console", "script", "-t", &transcript, &file("late.yaml")];
    assert_snapshot!(run(&words).await, @r#"
    --- stderr
    error: step 2 (expect `never`): no `never` within 5s; seen last:
      hello\r
    --- exit code 1
    "#);
    assert_eq!(std::fs::read(&transcript).unwrap(), b"hello\r");
    assert_snapshot!(run(&["console", "script", &file("wrong.yaml")]).await, @r#"
    --- stderr
    error: wrong.yaml:2:12: [1].exspect: unknown field `exspect`, expected one of `expect`, `send`, `line`, `key`, `secret`, `fail`, `within`, `press`, `every`
    --- exit code 1
    "#);
    let words = ["console", "script", "--output", "json", &file("good.yaml")];
    assert_snapshot!(run(&words).await, @r#"
    {"captures":{"escape":"esc \u001b[0m","version":"2023.01"},"transcript":"U-Boot 2023.01\\resc \\x1b[0m"}
    "#);
}
