//! A board in software, on the other end of a real pseudo-terminal.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// Starts a board and says where its serial port is. It runs until the test's process ends.
pub(crate) fn fake_board() -> PathBuf {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = PathBuf::from(ptsname(&master, Vec::new()).unwrap().into_string().unwrap());
    // Held open, so that the master does not see an end whenever the driver closes the port; and
    // raw, without echo.
    let device =
        rustix::fs::open(&path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
            .unwrap();
    let mut settings = tcgetattr(&device).unwrap();
    settings.make_raw();
    tcsetattr(&device, OptionalActions::Now, &settings).unwrap();
    let (input, mut output) = (File::from(master.try_clone().unwrap()), File::from(master));
    std::thread::spawn(move || {
        let _device = device;
        for line in BufReader::new(input).lines() {
            if let Some(answer) = answer(&line.unwrap()) {
                writeln!(output, "{answer}").unwrap();
            }
        }
    });
    path
}

/// What the board says to a line.
fn answer(line: &str) -> Option<String> {
    let (number, command) = line.split_once(' ')?;
    Some(match command {
        "set 1 on" | "set 1 off" | "set 2 on" | "set 2 off" => format!("{number} ok"),
        _ => format!("{number} there is no such command or relay: {command}"),
    })
}
