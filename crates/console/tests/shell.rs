//! A command shell over a console, on the shell of this machine behind a pseudo-terminal, with
//! messages of a kernel in between and a line that loses characters.

use std::sync::Arc;
use std::time::Duration;

use jumpstarter_console::{Console, ConsoleShell};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{ChannelReader, ChannelWriter, Framing};
use jumpstarter_driver_testkit::serial::{LONG, Pty};
use jumpstarter_supervise::{Child, Command};

/// How a line treats what passes.
#[derive(Clone, Copy, Default)]
struct Faults {
    /// The bytes of output between two messages of the kernel.
    message_every: Option<usize>,
    /// Of so many bytes of input one is lost.
    lose_every: Option<usize>,
}

const MESSAGE: &[u8] = b"[   12.345678] usb 1-1: new high-speed USB device number 7\r\n";

/// A shell on a pseudo-terminal, and the console to it.
async fn shell(faults: Faults) -> (Child, Console) {
    let pty = Arc::new(Pty::open());
    let script = format!("exec <>{0} >&0 2>&1; exec sh -i", pty.path.display());
    let child = Command::new("setsid").args(["sh", "-c", &script]).env("PS1", "# ");
    let child = child.spawn().await.expect("a shell");
    let (ours, theirs) = Channel::pair(Framing::Bytes);
    let (from_console, to_console) = theirs.split();
    tokio::spawn(output(Arc::clone(&pty), to_console, faults.message_every));
    tokio::spawn(input(pty, from_console, faults.lose_every));
    (child, Console::new(ours))
}

async fn output(pty: Arc<Pty>, mut console: ChannelWriter, every: Option<usize>) {
    let mut since = 0;
    loop {
        let byte = pty.read_some().await;
        let mut bytes = Vec::new();
        for byte in byte {
            bytes.push(byte);
            since += 1;
            if every == Some(since) {
                since = 0;
                bytes.extend_from_slice(MESSAGE);
            }
        }
        if bytes.is_empty() || console.send(bytes).await.is_err() {
            return;
        }
    }
}

async fn input(pty: Arc<Pty>, mut console: ChannelReader, every: Option<usize>) {
    let mut since = 0;
    while let Ok(Some(bytes)) = console.receive().await {
        let mut kept = bytes.to_vec();
        kept.retain(|byte| {
            since += 1;
            // A lost end of line is seen only when the deadline passes.
            let lost =
                every.is_some_and(|every| since % every == 0) && byte.is_ascii_alphanumeric();
            !lost
        });
        pty.write(&kept).await;
    }
}

async fn opened(faults: Faults) -> (Child, ConsoleShell) {
    let (child, console) = shell(faults).await;
    (child, ConsoleShell::open(console, None, LONG).await.expect("a shell"))
}

#[tokio::test]
async fn output_and_exit_code_are_those_of_the_command() {
    let (_child, mut shell) = opened(Faults::default()).await;
    let done =
        shell.run("echo hello; echo oh >&2; exit_with() { return 3; }; exit_with", LONG).await;
    let done = done.unwrap();
    assert_eq!((done.text().as_str(), done.exit_code), ("hello\noh\n", 3));
    // The shell stays the same.
    shell.run("cd /usr; A=\"it's $((40 + 2))\"", LONG).await.unwrap();
    assert_eq!(shell.run("pwd; echo \"$A\"", LONG).await.unwrap().text(), "/usr\nit's 42\n");
    assert_eq!(shell.run("printf 'no newline'", LONG).await.unwrap().output, b"no newline");
    assert_eq!(shell.run("true", LONG).await.unwrap().output, b"");
    assert_eq!(shell.run("no-such-command", LONG).await.unwrap().exit_code, 127);
    assert_eq!(shell.run("cat", LONG).await.unwrap().output, b"", "it has no standard input");
    // Longer than a line of a terminal, and of several lines.
    let long = format!("echo {}\necho 'two\nlines'", "x".repeat(3000));
    let expected = format!("{}\ntwo\nlines\n", "x".repeat(3000));
    assert_eq!(shell.run(&long, LONG).await.unwrap().text(), expected);
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_interrupted() {
    let (_child, mut shell) = opened(Faults::default()).await;
    let error = shell.run("sleep 1000", Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(shell.run("echo next", LONG).await.unwrap().text(), "next\n");
}

#[tokio::test]
async fn files_pass_both_ways() {
    let (_child, mut shell) = opened(Faults::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it's a file");
    let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
    shell.put(&bytes, path.to_str().unwrap(), LONG).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert_eq!(shell.get(path.to_str().unwrap(), LONG).await.unwrap(), bytes);
    shell.put(b"", path.to_str().unwrap(), LONG).await.unwrap();
    assert_eq!(shell.get(path.to_str().unwrap(), LONG).await.unwrap(), b"");
    assert_eq!(shell.get("/no/such/file", LONG).await.unwrap_err().kind(), ErrorKind::NotFound);
    let error = shell.put(b"x", "/no/such/file", LONG).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    // Nothing but the output of this command is left.
    let left = shell.run("ls -a /tmp /run /dev/shm | grep .console$$", LONG).await.unwrap().text();
    assert!(left.lines().count() == 1 && left.ends_with(".o\n"), "{left}");
}

#[tokio::test]
async fn messages_of_the_kernel_disturb_nothing() {
    let (_child, mut shell) = opened(Faults { message_every: Some(977), lose_every: None }).await;
    let numbers: String = (0..1000).map(|number| format!("{number}\n")).collect();
    assert_eq!(shell.run("seq 0 999", 2 * LONG).await.unwrap().text(), numbers);
    let done = shell.run("exit_with() { return 7; }; exit_with", LONG).await.unwrap();
    assert_eq!(done.exit_code, 7);
}

#[tokio::test]
async fn lost_characters_are_noticed() {
    let (_child, mut shell) = opened(Faults { message_every: None, lose_every: Some(1511) }).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let bytes: Vec<u8> = (0..=255).cycle().take(3000).collect();
    shell.put(&bytes, path.to_str().unwrap(), 2 * LONG).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}
