//! A port that loses characters, and a board that says nothing: the test is U-Boot.

use std::time::Duration;

use jumpstarter_console::Console;
use jumpstarter_driver_core::{Channel, ErrorKind, Framing};
use jumpstarter_driver_uboot::UbootConsole;

const SOON: Duration = Duration::from_secs(20);

/// Echoes, loses the characters of these numbers, and notes the lines that were entered.
async fn board(mut channel: Channel, lost: &'static [usize]) -> Vec<String> {
    let (mut lines, mut line, mut count) = (Vec::new(), String::new(), 0);
    while let Ok(Some(bytes)) = channel.receive().await {
        for byte in bytes.iter().copied() {
            count += 1;
            if lost.contains(&count) {
                continue;
            }
            let answer = match byte {
                3 => {
                    line.clear();
                    "<INTERRUPT>\r\n=> ".to_owned()
                }
                b'\r' => {
                    let number = line.split("@J\"").nth(1).and_then(|rest| rest.split('"').next());
                    let answer = match (number, line.starts_with("echo @J")) {
                        (Some(number), true) => format!("\r\n@J{number}:@\r\n=> "),
                        (Some(number), false) => format!("\r\ndone\r\n@J{number}:0@\r\n=> "),
                        (None, _) => "\r\n=> ".to_owned(),
                    };
                    lines.push(std::mem::take(&mut line));
                    answer
                }
                letter => {
                    line.push(char::from(letter));
                    char::from(letter).to_string()
                }
            };
            if channel.send(answer).await.is_err() {
                return lines;
            }
        }
    }
    lines
}

#[tokio::test(start_paused = true)]
async fn a_damaged_line_is_never_entered() {
    let (ours, theirs) = Channel::pair(Framing::Bytes);
    let board = tokio::spawn(board(theirs, &[6, 40]));
    let mut uboot = UbootConsole::new(Console::new(ours), "\n=>");
    let done = uboot.run("mw 0x1000 0xff", SOON).await.unwrap();
    assert_eq!((done.text.as_str(), done.exit_code), ("done\n", 0));
    drop(uboot);
    let lines = board.await.unwrap();
    let entered: Vec<_> = lines.iter().filter(|line| line.contains("mw")).collect();
    assert_eq!(entered, ["mw 0x1000 0xff; echo @J\"1\":$?@"], "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_board_is_an_error() {
    let (ours, mut theirs) = Channel::pair(Framing::Bytes);
    let silent = tokio::spawn(async move { while let Ok(Some(_)) = theirs.receive().await {} });
    let mut uboot = UbootConsole::new(Console::new(ours), "=>");
    let error = uboot.run("version", SOON).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error:#}");
    for wrong in ["a\nb", "# comment", "echo 'x"] {
        let error = uboot.run(wrong, SOON).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:#}");
    }
    drop(uboot);
    silent.await.unwrap();
}
