//! A terminal for the programs that are tested, and what is on its screen.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jumpstarter_supervise::{Child, Command, Sink};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use tokio::sync::watch;

/// For whatever takes a moment, on a busy host.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub const JMP: &str = env!("CARGO_BIN_EXE_jmp");
pub const J: &str = env!("CARGO_BIN_EXE_j");

/// A terminal: this side types and sees.
pub struct Terminal {
    keyboard: File,
    /// The programs' side, held open, so that its settings can be asked for.
    end: File,
    path: PathBuf,
    screen: watch::Receiver<Vec<u8>>,
    /// Closing it ends the thread that watches the screen, which holds this side of the terminal,
    /// too.
    watching: std::io::PipeWriter,
}

impl Terminal {
    pub fn new() -> Self {
        let master: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = PathBuf::from(ptsname(&master, Vec::new()).unwrap().into_string().unwrap());
        let end = File::options().read(true).write(true).open(&path).unwrap();
        let keyboard = File::from(master);
        let mut glass = keyboard.try_clone().unwrap();
        let (shown, screen) = watch::channel(Vec::new());
        let (hung_up, watching) = std::io::pipe().unwrap();
        // Ends with the terminal: reading fails once its other side is closed everywhere.
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            loop {
                let mut both =
                    [PollFd::new(&glass, PollFlags::IN), PollFd::new(&hung_up, PollFlags::IN)];
                poll(&mut both, None).unwrap();
                if !both[1].revents().is_empty() {
                    return;
                }
                let Ok(count @ 1..) = glass.read(&mut bytes) else { return };
                shown.send_modify(|screen| screen.extend_from_slice(&bytes[..count]));
            }
        });
        Self { keyboard, end, path, screen, watching }
    }

    /// A terminal with that many columns.
    pub fn of_width(columns: u16) -> Self {
        let terminal = Self::new();
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal.end, size).unwrap();
        terminal
    }

    /// A command whose three streams are this terminal, which is also the one of its session.
    pub fn command(&self, words: &[&str]) -> Command {
        let script = r#"tty=$1; shift; exec setsid --ctty --wait "$@" <"$tty" >"$tty" 2>&1"#;
        Command::new("/bin/sh").args(["-c", script, "sh"]).arg(&self.path).args(words)
    }

    /// As [`command`](Self::command), without a new session: a signal to the child reaches the
    /// program.
    pub fn bare_command(&self, words: &[&str]) -> Command {
        let script = r#"tty=$1; shift; exec "$@" <"$tty" >"$tty" 2>&1"#;
        Command::new("/bin/sh")
            .args(["-c", script, "sh"])
            .arg(&self.path)
            .args(words)
            .stderr(Sink::Tail(65536))
    }

    pub fn press(&mut self, keys: impl AsRef<[u8]>) {
        self.keyboard.write_all(keys.as_ref()).unwrap();
    }

    /// How the terminal is set.
    pub fn settings(&self) -> String {
        format!("{:?}", tcgetattr(&self.end).unwrap())
    }

    pub fn is_raw(&self) -> bool {
        !tcgetattr(&self.end).unwrap().local_modes.intersects(LocalModes::ECHO | LocalModes::ICANON)
    }

    /// Waits for the program to take the terminal over.
    pub async fn raw(&self) {
        jumpstarter_driver_testkit::eventually("a raw terminal", || self.is_raw()).await;
    }

    /// Waits for text on the screen.
    pub async fn shows(&mut self, text: impl AsRef<[u8]>) {
        let text = text.as_ref();
        let shows = |screen: &Vec<u8>| screen.windows(text.len()).any(|window| window == text);
        let shown = tokio::time::timeout(DEADLINE, self.screen.wait_for(shows)).await;
        let shown = shown.is_ok_and(|shown| shown.is_ok());
        assert!(shown, "no {:?} on the screen: {}", String::from_utf8_lossy(text), self.text());
    }

    /// Everything that was on the screen.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.screen.borrow()).into_owned()
    }

    /// Hangs up.
    pub fn hang_up(self) {
        drop(self.end);
        drop(self.watching);
        drop(self.keyboard);
    }
}

/// Waits for a program's end and answers its exit code.
pub async fn code(child: &Child) -> Option<i32> {
    tokio::time::timeout(DEADLINE, child.wait()).await.expect("it ends").code()
}

/// A folder with an exporter file.
pub struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    pub fn new(file: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("lab.yaml"), file).unwrap();
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The exporter file.
    pub fn file(&self) -> String {
        self.path("lab.yaml").to_str().unwrap().to_owned()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Serves the device in a separate process. Returns the child and its first line: the address.
    pub async fn serve(&self, options: &[&str]) -> (Child, String) {
        use tokio::io::{AsyncBufReadExt, BufReader};
        let command =
            Command::new(JMP).args(["run", "--exporter-config", &self.file()]).args(options);
        let child = command.stdout(Sink::Piped).spawn().await.unwrap();
        let mut lines = BufReader::new(child.take_stdout().unwrap()).lines();
        let line = tokio::time::timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap();
        let line = line.unwrap_or_else(|| panic!("no exporter: {}", child.stderr_tail()));
        (child, line.strip_prefix("ready ").unwrap().to_owned())
    }
}
