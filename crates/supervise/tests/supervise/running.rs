//! Short tools: their output, or an error that says it all.

use std::time::Duration;

use jumpstarter_driver_testkit::eventually;
use jumpstarter_supervise::{
    Command, Input, Sink, SuperviseError, run, run_blocking, run_unchecked,
};

use crate::processes::{marked, new_mark, shell};

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn gives_the_output() {
    let command = Command::new("tr").args(["a-z", "A-Z"]).stdin(Input::Bytes(b"hello".to_vec()));
    let output = run(command, LONG).await.unwrap();
    assert_eq!((output.stdout_text().as_str(), output.status.success()), ("HELLO", true));
}

#[tokio::test]
async fn all_of_a_large_output_is_there() {
    let input: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    let output = run(Command::new("cat").stdin(Input::Bytes(input.clone())), LONG).await.unwrap();
    assert!(output.stdout == input);
}

#[tokio::test]
async fn environment_and_folder() {
    let folder = tempfile::tempdir().unwrap();
    let script = "pwd -P; echo ${HOME-none} ${ONE-none} ${TWO-none}";
    let command = Command::new("/bin/sh")
        .args(["-c", script])
        .env_clear()
        .env("ONE", "1")
        .env("TWO", "2")
        .env_remove("TWO");
    let output = run(command.current_dir(folder.path()), LONG).await.unwrap();
    let expected = format!("{}\nnone 1 none\n", folder.path().canonicalize().unwrap().display());
    assert_eq!(output.stdout_text(), expected);
}

#[tokio::test]
async fn a_failure_says_which_program_how_and_why() {
    let error = run(shell("echo no disk >&2; exit 5", "fails"), LONG).await.unwrap_err();
    assert_eq!(error.to_string(), "`sh` failed (exit code 5): no disk");
    let output = run_unchecked(shell("exit 5", "fails"), LONG).await.unwrap();
    assert_eq!(output.status.code(), Some(5));
    // Without words on stderr the end of stdout says it.
    let script = "head -c 300000 /dev/zero | tr '\\0' y; echo no disk; exit 5";
    let failed = run(Command::new("sh").args(["-c", script]), LONG).await;
    let said = failed.unwrap_err().to_string();
    assert!(said.ends_with("no disk") && said.len() < 20_000, "{} bytes", said.len());
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    std::fs::write(&script, "#!/nowhere/interpreter\n").unwrap();
    let start = |command: Command| async { command.spawn().await.unwrap_err() };

    let error = start(Command::new("no-such-tool").install_hint("apt-get install tool")).await;
    assert_eq!(error.to_string(), "cannot run `no-such-tool`: there is no such program in PATH");
    assert_eq!(error.hint().as_deref(), Some("apt-get install tool"));

    let error = start(Command::new(&script)).await;
    assert!(matches!(error, SuperviseError::PermissionDenied { .. }), "{error}");
    assert!(error.hint().unwrap().contains("chmod +x"));

    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).unwrap();
    let error = start(Command::new(&script)).await;
    assert!(error.to_string().contains("interpreter"), "{error}");

    let error = start(Command::new("true").current_dir("/nowhere")).await;
    assert!(error.to_string().contains("in the folder /nowhere: No such file"), "{error}");
}

#[tokio::test]
async fn a_deadline_kills_all_of_it() {
    let mark = new_mark("deadline");
    let command = shell("echo stuck >&2; sleep 1000 & sleep 1000", &mark);
    let error = run(command, Duration::from_millis(300)).await.unwrap_err();
    assert!(
        error.to_string().starts_with("`sh` did not end within 300ms and was killed: "),
        "{error}"
    );
    assert_eq!(marked(&mark), [0; 0]);
}

#[tokio::test]
async fn cancelling_kills_all_of_it() {
    let mark = new_mark("cancel-run");
    let mut running = Box::pin(run(shell("sleep 1000 & sleep 1000", &mark), LONG));
    tokio::select! {
        result = &mut running => panic!("it ended: {result:?}"),
        () = eventually("both are there", || marked(&mark).len() >= 2) => {}
    }
    drop(running);
    eventually("nothing is left", || marked(&mark).is_empty()).await;
}

#[tokio::test]
async fn what_a_tool_leaves_running_is_killed() {
    let mark = new_mark("left");
    run(shell("setsid sleep 1000 & echo done", &mark), LONG).await.unwrap();
    assert_eq!(marked(&mark), [0; 0]);
}

#[tokio::test]
async fn too_much_output_is_an_error_not_a_piece() {
    let command = Command::new("echo").arg("far too much").stdout(Sink::Tail(4));
    let error = run(command, LONG).await.unwrap_err();
    assert_eq!(error.to_string(), "`echo` wrote more than the 4 bytes of output that are kept");
}

#[test]
fn works_without_a_runtime() {
    let output = run_blocking(Command::new("echo").arg("hello"), LONG).unwrap();
    assert_eq!(output.stdout_text(), "hello\n");
    let status = Command::new("sh").args(["-c", "exit 6"]).status_inherit().unwrap();
    assert_eq!(status.code(), Some(6));
}

#[tokio::test]
async fn the_blocking_ones_work_within_a_runtime_too() {
    let output = run_blocking(Command::new("echo").arg("hello"), LONG).unwrap();
    assert_eq!(output.stdout_text(), "hello\n");
}
