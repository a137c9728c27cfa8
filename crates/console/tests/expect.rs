//! Conversations with consoles.

use std::time::Duration;

use jumpstarter_console::{Console, Pattern, SerialExt};
use jumpstarter_driver_core::{Channel, ErrorKind, Framing, Secret, Serial};
use jumpstarter_driver_serial::SerialPort;
use jumpstarter_driver_testkit::serial::{LONG, Pty, timely};
use tokio::time::timeout;

/// Soon: for what never comes.
const SOON: Duration = Duration::from_millis(50);

fn console() -> (Channel, Console) {
    let (device, ours) = Channel::pair(Framing::Bytes);
    (device, Console::new(ours))
}

#[tokio::test]
async fn matches_span_pieces_and_waits_go_on_behind_them() {
    let (mut device, mut console) = console();
    let speaking = tokio::spawn(async move {
        for byte in b"a host login: b host login: rest" {
            device.send(vec![*byte]).await.unwrap();
        }
        device
    });
    assert_eq!(console.wait_for("login: ", LONG).await.unwrap().before_text(), "a host ");
    let second = console.wait_for_regex(r"(\w+) login: ", LONG).await.unwrap();
    assert_eq!((second.before_text().as_ref(), second.group(1).as_deref()), ("b ", Some("host")));
    assert_eq!((second.group(0), second.group(2)), (None, None));
    drop(speaking.await.unwrap());
    let error = console.wait_for("login: ", LONG).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(console.unmatched(), b"rest");
    assert_eq!(console.transcript_text(), "a host login: b host login: rest");
}

#[tokio::test]
async fn a_character_may_come_in_pieces_and_a_wait_may_have_no_end() {
    let (mut device, mut console) = console();
    let speaking = tokio::spawn(async move {
        for byte in "Grüße vom Gerät\r\nпривет> ".as_bytes() {
            device.send(vec![*byte]).await.unwrap();
        }
        device
    });
    let found = console.wait_for("Gerät", Duration::MAX).await.unwrap();
    assert_eq!(found.before_text(), "Grüße vom ");
    let found = console.wait_for_regex("п(.)ив", Duration::MAX).await.unwrap();
    assert_eq!(found.groups[0].as_deref(), Some("р".as_bytes()));
    console.wait_for("ет> ", Duration::MAX).await.unwrap();
    drop(speaking.await.unwrap());
    assert!(console.transcript_text().contains("привет"), "{}", console.transcript_text());
}

#[tokio::test]
async fn the_first_in_the_stream_wins_then_the_first_in_the_list() {
    let (mut device, mut console) = console();
    device.send("abcd abcd").await.unwrap();
    let found = console.wait_for_any(["cd", "bc", "bcd"], LONG).await.unwrap();
    assert_eq!((found.index, found.text().as_ref()), (1, "bc"));
    let mixed = [Pattern::literal("panic"), Pattern::regex("b(.)d").unwrap()];
    let found = console.wait_for_any(&mixed, LONG).await.unwrap();
    assert_eq!(
        (found.index, found.before_text().as_ref(), found.group(1).as_deref()),
        (1, "d a", Some("c"))
    );
}

#[tokio::test]
async fn bytes_that_are_no_text_survive() {
    let (mut device, mut console) = console();
    device.send(&b"\xff\x00\xfe>ok"[..]).await.unwrap();
    let found = console.wait_for_regex(r"(?-u:\xfe)>", LONG).await.unwrap();
    assert_eq!((found.before, found.matched), (b"\xff\x00".to_vec(), b"\xfe>".to_vec()));
}

#[tokio::test]
async fn a_deadline_says_what_was_seen() {
    let (mut device, mut console) = console();
    let error = console.wait_for("login: ", SOON).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(error.report().contains("nothing was received"), "{}", error.report());
    device.send(format!("{}\r\n\x1b[31mKernel panic\x07", "x".repeat(5000))).await.unwrap();
    let error = console.wait_for_any(["login: ", "# "], SOON).await.unwrap_err().report();
    assert!(error.contains("no `login: ` or `# ` within 50ms"), "{error}");
    assert!(error.ends_with("x\n\\x1b[31mKernel panic\\x07") && error.len() < 2300, "{error}");
    // What was seen is still there, also after a wait was cancelled.
    assert!(timeout(SOON, console.wait_for("# ", LONG)).await.is_err());
    console.wait_for("panic", LONG).await.unwrap();
}

#[tokio::test]
async fn the_end_of_the_console_ends_a_wait_at_once() {
    let (mut device, mut console) = console();
    device.send("Power down").await.unwrap();
    let (waited, ()) =
        tokio::join!(timely(console.wait_for("login: ", Duration::from_secs(3600))), async {
            drop(device)
        });
    let error = waited.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.report().contains("ended while waiting for `login: `"), "{}", error.report());
    assert!(error.report().contains("Power down"), "{}", error.report());
    assert_eq!(console.send("x").await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_flood_is_bounded_and_its_end_is_found() {
    let (mut device, mut console) = console();
    let flooding = tokio::spawn(async move {
        for _ in 0..200 {
            device.send(vec![b'.'; 16 * 1024]).await.unwrap();
        }
        device.send("done").await.unwrap();
        device
    });
    let found = console.wait_for("done", LONG).await.unwrap();
    assert!(found.before.len() <= 256 * 1024, "{}", found.before.len());
    assert_eq!(console.transcript().len(), 1024 * 1024);
    flooding.await.unwrap();
}

#[tokio::test]
async fn a_large_piece_is_searched_whole() {
    let (mut device, mut console) = console();
    device.send("a little first").await.unwrap();
    console.wait_for("nothing", SOON).await.unwrap_err();
    // At its beginning, where it would be dropped, and just behind where an earlier search ended.
    for place in [0, 300_000] {
        let mut piece = vec![b'.'; 600_000];
        piece[place..place + 6].copy_from_slice(b"needle");
        let sending = device.send(piece);
        let (sent, found) = tokio::join!(sending, console.wait_for("needle", LONG));
        sent.unwrap();
        assert!(found.is_ok(), "at {place}");
    }
}

#[tokio::test]
async fn sending_goes_on_receiving() {
    // The loopback holds 64 KiB: it takes more only while somebody reads.
    let mut console = SerialPort::loopback().expect().await.unwrap();
    let text = "0123456789abcdef".repeat(20_000);
    console.send(&text).await.unwrap();
    console.send("!").await.unwrap();
    console.wait_for("!", LONG).await.unwrap();
    assert!(
        console.transcript() == format!("{text}!").into_bytes(),
        "{} bytes",
        console.transcript().len()
    );
}

#[tokio::test]
async fn nothing_is_sent_twice_while_the_device_talks() {
    let (mut device, mut console) = console();
    let talking = tokio::spawn(async move {
        let mut got = Vec::new();
        while got.len() < 40 * 6 {
            device.send("noise").await.unwrap();
            got.extend_from_slice(&device.receive().await.unwrap().unwrap());
        }
        device.send("bye").await.unwrap();
        got
    });
    for number in 0..40 {
        console.send_line(format!("{number:05}")).await.unwrap();
    }
    console.wait_for("bye", LONG).await.unwrap();
    let expected: String = (0..40).map(|number| format!("{number:05}\r")).collect();
    assert_eq!(String::from_utf8(timely(talking).await.unwrap()).unwrap(), expected);
}

#[tokio::test]
async fn a_device_that_takes_nothing_is_a_deadline() {
    let (_device, console) = console();
    let mut console = console.send_deadline(SOON);
    let mut last = Ok(());
    for _ in 0..100 {
        last = console.send("x").await;
        if last.is_err() {
            break;
        }
    }
    assert_eq!(last.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
}

#[tokio::test]
async fn colours_can_be_removed() {
    let (mut device, ours) = Channel::pair(Framing::Bytes);
    let mut console = Console::new(ours).without_ansi().line_ending("\n");
    for piece in ["\x1b[1;3", "2mroot@host\x1b", "[0m:~# "] {
        device.send(piece).await.unwrap();
    }
    console.wait_for("root@host:~# ", LONG).await.unwrap();
    console.send_line("id").await.unwrap();
    assert_eq!(device.receive().await.unwrap().unwrap(), "id\n");
}

/// Plays getty and login on a real terminal, echoing as `echo_password` says.
async fn getty(pty: &Pty, accept: bool, echo_password: bool) {
    pty.write(b"Debian 12 tty\r\n\r\nhost login: ").await;
    assert_eq!(pty.read(5).await, b"root\r");
    pty.write(b"root\r\nPassword: ").await;
    assert_eq!(pty.read(7).await, b"s3cret\r");
    if echo_password {
        pty.write(b"s3cret").await;
    }
    let answer: &[u8] =
        if accept { b"\r\nLast login: today\r\nroot@host:~# " } else { b"\r\nLogin incorrect\r\n" };
    pty.write(answer).await;
}

#[tokio::test]
async fn logs_in_on_a_terminal() {
    let pty = Pty::open();
    let port = SerialPort::device(&pty.path);
    let serial: &dyn Serial = &port;
    let mut console = serial.expect().await.unwrap();
    let password = Secret::new("s3cret");
    let (login, ()) = tokio::join!(
        console.login("root", Some(&password), ":~# ", LONG),
        getty(&pty, true, false)
    );
    login.unwrap();
    let (login, ()) = tokio::join!(
        console.login("root", Some(&password), ":~# ", LONG),
        getty(&pty, false, false)
    );
    assert_eq!(login.unwrap_err().kind(), ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn an_echoed_password_is_in_no_error() {
    let pty = Pty::open();
    let mut console = SerialPort::device(&pty.path).expect().await.unwrap();
    let password = Secret::new("s3cret");
    let (login, ()) = tokio::join!(
        console.login("root", Some(&password), "never", Duration::from_secs(10)),
        getty(&pty, true, true)
    );
    let error = login.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(
        error.report().contains("Password: ***") && !error.report().contains("s3cret"),
        "{}",
        error.report()
    );
    assert!(!format!("{console:?}").contains("s3cret"));
}

/// What a fake device says to each line that it is sent, in order; answers the lines.
async fn says(mut device: Channel, first: &[u8], answers: &[&[u8]]) -> Vec<String> {
    device.send(first.to_vec()).await.expect("the console is open");
    let (mut lines, mut line) = (Vec::new(), Vec::new());
    while let Some(bytes) = device.receive().await.expect("bytes or the end") {
        for byte in bytes {
            if byte != b'\r' {
                line.push(byte);
                continue;
            }
            if let Some(answer) = answers.get(lines.len()) {
                // One that goes meanwhile has had enough.
                drop(device.send(answer.to_vec()).await);
            }
            lines.push(String::from_utf8_lossy(&std::mem::take(&mut line)).into_owned());
        }
    }
    lines
}

#[track_caller]
fn login(
    first: &'static str,
    answers: &'static [&'static str],
) -> impl Future<Output = (Result<(), ErrorKind>, Vec<String>)> {
    let (device, mut console) = console();
    async move {
        let answers: Vec<&[u8]> = answers.iter().map(|answer| answer.as_bytes()).collect();
        let saying = says(device, first.as_bytes(), &answers);
        let logging_in = async {
            let password = Secret::new("s3cret");
            let outcome =
                console.login("root", Some(&password), ":~# ", Duration::from_secs(20)).await;
            drop(console);
            outcome.map_err(|error| error.kind())
        };
        timely(async { tokio::join!(logging_in, saying) }).await
    }
}

#[tokio::test]
async fn a_refused_password_is_sent_once_whatever_the_refusal_says() {
    for refusal in [
        "\r\nAnmeldung fehlgeschlagen\r\n\r\nhost login: ",
        "\r\nToo bad.\r\nhost login: ",
        "\r\nhost login: ",
        "\r\nPassword: ",
        "\r\nLogin incorrect\r\n",
    ] {
        let answers = Box::leak(Box::new(["root\r\nPassword: ", refusal, refusal, refusal]));
        let (outcome, lines) = login("Debian 12\r\n\r\nhost login: ", answers).await;
        assert_eq!(outcome, Err(ErrorKind::Unauthenticated), "{refusal:?}");
        assert_eq!(lines, ["root", "s3cret"], "{refusal:?}");
    }
}

#[tokio::test]
async fn a_line_about_an_earlier_login_is_no_prompt() {
    for first in [
        "Previous login: Mon Jan  1 12:00:00 on ttyS0\r\nhost login: ",
        "Last login: Mon Jan  1 12:00:00 UTC 2024 on ttyS0\r\n\r\nlogin: ",
        "host Last failed login: Mon Jan  1\r\nhost login: ",
        "host login: [   12.345678] random: crng init done\r\n",
        "host login: ci-info: no authorized keys\r\nmore\r\n",
    ] {
        let answers = &[
            "root\r\nPassword: ",
            "\r\nPrevious login: Mon Jan  1\r\nLast login: never\r\nroot@host:~# ",
        ];
        let (outcome, lines) = login(first, answers).await;
        assert_eq!(
            (outcome, &lines[..]),
            (Ok(()), &["root".to_owned(), "s3cret".to_owned()][..]),
            "{first:?}"
        );
    }
}

#[tokio::test]
async fn a_getty_that_lost_the_name_gets_it_again_but_not_for_ever() {
    let answers = &["\r\nhost login: ", "root\r\nPassword: ", "\r\nroot@host:~# "];
    let (outcome, lines) = login("host login: ", answers).await;
    assert_eq!((outcome, lines.join(" ").as_str()), (Ok(()), "root root s3cret"));
    let (outcome, lines) = login("host login: ", &["\r\nhost login: "; 100]).await;
    assert_eq!((outcome, lines.len()), (Err(ErrorKind::Unauthenticated), 3));
}
