//! The methods that a `shell` names, as verbs.

use insta::assert_snapshot;

use crate::lab::Bench;

const FILE: &str = "
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: default, name: lab}
export:
  tools:
    type: jumpstarter_driver_shell.driver.Shell
    config:
      methods:
        greet: {command: 'echo \"hello $1 $MOOD\"', description: Greets somebody}
        multi_line: 'printf \"%s|\" \"$@\"'
        fail: 'echo oh >&2; exit 42'
        killed: kill -9 $$
  rack: {children: {sh: {ref: tools}}}
";

#[tokio::test]
async fn each_method_is_a_verb() {
    let bench = Bench::of(FILE).await;
    assert_snapshot!(bench.j(&["tools"]).await, @r"
    --- stderr
    shell

    Usage: j tools [OPTIONS] <VERB>

    Commands:
      fail        Runs the method fail
      greet       Greets somebody
      killed      Runs the method killed
      multi_line  Runs the method multi_line

    Options:
          --output <FORMAT>  How to print answers, text by default; json is one value a line, errors too [possible values: text, json]
      -h, --help             Print help (see more with '--help')
    --- exit code 2
    ");
    let run = async |words: &[&str]| bench.j_with(words, b"").await;
    assert_snapshot!(run(&["tools", "greet", "-e", "MOOD=gladly", "world"]).await, @"hello world gladly");
    assert_snapshot!(run(&["rack", "sh", "multi_line", "-x", "a b", "--", "-h"]).await, @"-x|a b|--|-h|");
    assert_snapshot!(run(&["tools", "multi_line", "--", "--output", "-e"]).await, @"--output|-e|");
    assert_snapshot!(run(&["tools", "fail"]).await, @r"
    --- stderr
    oh
    --- exit code 42
    ");
    assert_snapshot!(run(&["tools", "killed"]).await, @"--- exit code 137");
    assert_snapshot!(run(&["tools", "greet", "you", "--output", "json"]).await, @r#"
    ["hello you \n","",null]
    ["","",0]
    "#);
    assert_snapshot!(run(&["stream", "tools", "call_method", "greet", "{\"MOOD\": \"too\"}", "5"]).await, @r#"
    hello 5 too\n

    null


    0
    "#);
}

#[tokio::test]
async fn what_cannot_be_run_is_said() {
    let bench = Bench::of(FILE).await;
    assert_snapshot!(bench.j(&["tools", "gret"]).await, @r"
    --- stderr
    error: `tools` has no `gret`
    hint: did you mean `greet`? There are `fail`, `greet`, `killed` and `multi_line`
    --- exit code 2
    ");
    assert_snapshot!(bench.j(&["tools", "greet", "-e", "MOOD"]).await, @r"
    --- stderr
    error: `MOOD` sets no variable
    hint: write --env NAME=VALUE
    --- exit code 2
    ");
    assert_snapshot!(bench.j(&["tools", "greet", "-e", "PATH=/tmp"]).await, @r"
    --- stderr
    error: environment variable `PATH` is blocked for security reasons
    hint: the exporter's own value is used; pass what the script needs as an argument
    --- exit code 1
    ");
}

#[tokio::test]
async fn a_switch_that_cycles_by_itself_is_asked_to() {
    let file = "
export:
  power:
    type: command-power
    config:
      on: ['true']
      off: ['true']
      cycle: [touch, cycled]
      cwd: .
      read: [echo, '{\"voltage\": 12, \"current\": 2}']
";
    let bench = Bench::of(file).await;
    assert_snapshot!(bench.j(&["power", "read"]).await, @"voltage=12.0 V  current=2.0 A  apparent_power=24.0 VA");
    let cycled = bench.lab.path("cycled");
    assert!(!cycled.exists());
    assert_snapshot!(bench.j(&["power", "cycle", "--wait", "0"]).await, @"");
    assert!(cycled.exists(), "it ran in the file's folder");
}

#[tokio::test]
async fn a_virtual_device_has_the_verbs_of_a_switch_and_can_be_destroyed() {
    let file = "
export:
  power:
    type: command-virtual-power
    config:
      on: [sh, -c, 'echo on >> log']
      off: [sh, -c, 'echo off >> log']
      destroy: [sh, -c, 'echo destroy >> log']
      cwd: .
      read: [echo, '{\"voltage\": 12, \"current\": 2}']
";
    let bench = Bench::of(file).await;
    assert_snapshot!(bench.j(&["power", "cycle", "--wait", "0"]).await, @"
    --- stderr
    off, on again in 0ns
    ");
    assert_snapshot!(bench.j(&["power", "read"]).await, @"voltage=12.0 V  current=2.0 A  apparent_power=24.0 VA");
    assert_snapshot!(bench.j(&["power", "off", "--destroy"]).await, @"");
    assert_snapshot!(bench.j(&["power", "on"]).await, @"");
    assert_snapshot!(bench.j(&["power", "off"]).await, @"");
    let log = std::fs::read_to_string(bench.lab.path("log")).unwrap();
    assert_eq!(log, "off\non\noff\ndestroy\non\noff\n");
}

#[tokio::test]
async fn a_reader_that_leaves_ends_the_output_quietly() {
    let bench = Bench::of(
        "export: {tools: {type: shell, config: {methods: {press: 'while true; do printf press; done'}}}}",
    )
    .await;
    let script = format!(
        "set -o pipefail; {} tools press 2>&1 | head -c 5; echo \" ${{PIPESTATUS[0]}}\"",
        crate::terminal::J
    );
    let command = crate::lab::clean(jumpstarter_supervise::Command::new("bash"))
        .args(["-c", &script])
        .env("JUMPSTARTER_HOST", &bench.host);
    assert_eq!(bench.run(command).await.trim_end(), "press 0");
}
