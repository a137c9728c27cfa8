//! Scripts run by real shells: arguments, variables, output, exit codes, time-outs, leftovers.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{Registry, serde_json};
use jumpstarter_driver_shell as _;
use jumpstarter_driver_testkit::eventually;
use serde_json::{Value, json};

async fn open(config: Value) -> Result<Device> {
    let entry = Registry::linked().find("jumpstarter_driver_shell.driver.Shell").unwrap();
    (entry.open)(config, OpenContext::at("shell")).await.map(Device::of_shared_driver)
}

async fn shell(config: Value) -> Arc<dyn Shell> {
    open(config).await.unwrap().get::<dyn Shell>("").unwrap()
}

async fn start(
    shell: &dyn Shell,
    method: &str,
    env: &[(&str, &str)],
    args: &[&str],
) -> Result<ValueStream<ShellOutput>> {
    let env: BTreeMap<_, _> =
        env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let args = Rest(args.iter().map(|word| (*word).to_owned()).collect());
    shell.call_method(method.to_owned(), Some(env), args).await
}

/// All of both outputs, and the exit code.
async fn whole(mut output: ValueStream<ShellOutput>) -> (String, String, Option<i32>) {
    let (mut stdout, mut stderr, mut exit_code) = (String::new(), String::new(), None);
    while let Some(item) = output.next().await {
        let item = item.unwrap();
        stdout += &item.stdout;
        stderr += &item.stderr;
        exit_code = item.exit_code;
    }
    (stdout, stderr, exit_code)
}

#[track_caller]
fn check(script: &str, env: &[(&str, &str)], args: &[&str], expected: (&str, &str, i32)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (stdout, stderr, exit_code) = runtime.block_on(async {
        let shell = shell(json!({ "methods": { "m": script } })).await;
        whole(start(&*shell, "m", env, args).await.unwrap()).await
    });
    assert_eq!((&*stdout, &*stderr, exit_code), (expected.0, expected.1, Some(expected.2)));
}

#[test]
fn a_script_gets_its_arguments_and_variables() {
    check("echo $1; echo $2", &[], &["a", "b"], ("a\nb\n", "", 0));
    check("echo \"$0|$#|$*\"", &[], &["--help", "", "x y"], ("m|3|--help  x y\n", "", 0));
    check("echo $ENV1", &[("ENV1", "world; exit 3")], &[], ("world; exit 3\n", "", 0));
    check("echo out; echo err >&2; exit 42", &[], &[], ("out\n", "err\n", 42));
    // As the Python driver reports a signal.
    check("kill -9 $$", &[], &[], ("", "", -9));
    check("read line || echo no input", &[], &[], ("no input\n", "", 0));
    check("head -c 300000 /dev/zero | tr '\\0' x", &[], &[], (&"x".repeat(300_000), "", 0));
}

#[tokio::test]
async fn output_comes_while_the_script_runs() {
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    let script =
        format!("echo first; until [ -e {} ]; do sleep 0.02; done; echo last", go.display());
    let shell = shell(json!({ "methods": { "m": script } })).await;
    let mut output = start(&*shell, "m", &[], &[]).await.unwrap();
    let first = output.next().await.unwrap().unwrap();
    assert_eq!((&*first.stdout, first.exit_code), ("first\n", None));
    std::fs::write(go, "").unwrap();
    assert_eq!(whole(output).await, ("last\n".to_owned(), String::new(), Some(0)));
}

#[tokio::test]
async fn a_script_that_takes_too_long_is_ended_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    // The first child ignores SIGTERM, and the second has left the group.
    let script = format!(
        "trap 'echo bye' TERM; (trap '' TERM; sleep 1000) & echo $! > {0}; setsid sleep 1000 & echo $! >> {0}; wait",
        pids.display()
    );
    let methods = json!({ "m": { "command": script, "timeout": "5s" } });
    let shell = shell(json!({ "methods": methods, "timeout": 1000 })).await;
    let began = Instant::now();
    let (stdout, stderr, exit_code) = whole(start(&*shell, "m", &[], &[]).await.unwrap()).await;
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!((&*stdout, exit_code), ("bye\n", Some(199)));
    assert_eq!(stderr, "\nTimeout expired while running m: it did not end within 5s\n");
    let pids = std::fs::read_to_string(pids).unwrap();
    assert_eq!(pids.lines().count(), 2);
    assert_gone(&pids).await;
}

#[tokio::test]
async fn what_a_script_leaves_running_is_ended_with_it() {
    let shell = shell(json!({ "methods": { "m": "sleep 1000 & echo $!" } })).await;
    // The sleep holds the output open.
    let (pid, _, exit_code) = whole(start(&*shell, "m", &[], &[]).await.unwrap()).await;
    assert_eq!(exit_code, Some(0));
    assert_gone(&pid).await;
}

#[tokio::test]
async fn a_script_ends_with_its_call_and_with_its_driver() {
    let device = open(json!({ "methods": { "m": "echo $$; exec sleep 1000" } })).await.unwrap();
    let shell = device.get::<dyn Shell>("").unwrap();
    let mut dropped = start(&*shell, "m", &[], &[]).await.unwrap();
    let pid = dropped.next().await.unwrap().unwrap().stdout;
    drop(dropped);
    assert_gone(&pid).await;

    // Nobody reads this output when the driver is closed.
    let mut unread = start(&*shell, "m", &[], &[]).await.unwrap();
    let pid = unread.next().await.unwrap().unwrap().stdout;
    device.close().await.unwrap();
    assert_gone(&pid).await;
    let error = unread.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    let error = start(&*shell, "m", &[], &[]).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
}

async fn assert_gone(pids: &str) {
    for pid in pids.split_whitespace() {
        let process = std::path::PathBuf::from(format!("/proc/{pid}"));
        eventually(&format!("the end of {pid}"), || !process.exists()).await;
    }
}

#[tokio::test]
async fn what_cannot_be_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let ok = shell(json!({ "methods": { "greet": "echo hello", "env": "env" } })).await;
    let refused = async |shell: &Arc<dyn Shell>, method: &str, env: &[(&str, &str)], arg: &str| {
        let error = start(&**shell, method, env, &[arg]).await.err().expect("it is refused");
        (error.kind(), error.report())
    };
    let (kind, report) = refused(&ok, "great", &[], "").await;
    assert_eq!(kind, ErrorKind::InvalidArgument);
    assert!(
        report.contains("there is no method `great`") && report.contains("`greet`"),
        "{report}"
    );
    let (kind, report) = refused(&ok, "env", &[("LD_PRELOAD", "/tmp/x.so")], "").await;
    assert_eq!(kind, ErrorKind::InvalidArgument);
    assert!(report.contains("blocked for security reasons"), "{report}");
    let (kind, report) = refused(&ok, "greet", &[], "a\0b").await;
    assert_eq!((kind, &*report), (ErrorKind::InvalidArgument, "argument 1 holds a zero byte"));

    let methods = json!({ "greet": "echo hello" });
    let no_shell = shell(json!({ "methods": methods, "shell": ["no-such-shell", "-c"] })).await;
    let (kind, report) = refused(&no_shell, "greet", &[], "").await;
    assert_eq!(kind, ErrorKind::NotFound);
    assert!(report.starts_with("running `greet`: cannot run `no-such-shell`"), "{report}");
    let no_folder = shell(json!({ "methods": methods, "cwd": missing })).await;
    let (_, report) = refused(&no_folder, "greet", &[], "").await;
    assert!(report.contains("missing"), "{report}");
}

#[tokio::test]
async fn configurations_that_cannot_work_are_refused() {
    let check = async |config: Value, expected: &str| {
        let error = open(config.clone()).await.err().unwrap_or_else(|| panic!("{config} opened"));
        assert!(error.report().contains(expected), "{config}: {}", error.report());
    };
    check(json!({}), "missing field `methods`").await;
    check(json!({ "methods": { "m": 5 } }), "methods.m").await;
    check(json!({ "methods": { "m": { "comand": "ls" } } }), "comand").await;
    check(json!({ "methods": { "m": " " } }), "methods.m: the script is empty").await;
    check(json!({ "methods": {}, "shell": [] }), "shell: names no program").await;
    check(json!({ "methods": {}, "timeout": 0 }), "timeout: leaves a method no time to run").await;
    let methods = json!({ "m": { "description": "Says hello", "timeout": 0 } });
    check(json!({ "methods": methods }), "methods.m.timeout: leaves a method no time").await;
}

#[tokio::test]
async fn methods_are_listed_and_described() {
    let methods = json!({
        "plain": "ls",
        "detailed": { "command": "echo $1", "description": "Says a word" },
        "default": { "description": "Says hello" },
    });
    let device = open(json!({ "methods": methods, "shell": ["sh", "-c"] })).await.unwrap();
    let described: Vec<_> = device.nodes()[0]
        .methods_description()
        .iter()
        .map(|(method, text)| (method.as_str(), text.as_str()))
        .collect();
    assert_eq!(described, [("default", "Says hello"), ("detailed", "Says a word")]);
    let shell = device.get::<dyn Shell>("").unwrap();
    assert_eq!(shell.get_methods().await.unwrap(), ["default", "detailed", "plain"]);
    let (stdout, _, _) = whole(start(&*shell, "default", &[], &[]).await.unwrap()).await;
    assert_eq!(stdout, "Hello\n");
}
