//! Ctrl-C and `kill -9` in every phase of the demo: no process and no file stays.
#![expect(clippy::unwrap_used, reason = "tests may, and so may their helpers")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use jumpstarter_driver_testkit::{blocking_eventually, guest, pico};
use rustix::process::{Pid, Signal, kill_process};

/// A phase, and the line of the demo after which it begins.
const PHASES: [(&str, Option<&str>); 11] = [
    ("start", None),
    ("open", Some("check")),
    ("flash", Some("open")),
    ("power on", Some("flash")),
    ("log in", Some("power on")),
    ("pause", Some("log in")),
    ("resume", Some("pause")),
    ("readings", Some("resume")),
    ("stop", Some("readings")),
    ("close", Some("stop")),
    ("end", Some("close")),
];

/// How long anything may take on a machine that has much to do.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often a phase is tried: the demo may end before the signal comes.
const TRIES: usize = 5;

/// The running demo, in a separate temporary folder, which identifies its processes.
struct Demo {
    child: std::process::Child,
    lines: Receiver<String>,
}

impl Demo {
    fn start(folder: &Path, image: Option<&Path>) -> Self {
        Self::start_guest(folder, "pico", image)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a supervised child would be killed by us, not by itself"
    )]
    fn start_guest(folder: &Path, guest: &str, image: Option<&Path>) -> Self {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_demo"));
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/qemu.yaml");
        command.arg("--config").arg(config).args(["--guest", guest]);
        if let Some(image) = image {
            command.arg("--image").arg(image);
        }
        command.env("TMPDIR", folder).env_remove("XDG_RUNTIME_DIR");
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            // The end of either side ends the thread.
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// Waits until the step is done; `false` when the demo ended before.
    fn wait_for(&self, step: &str) -> bool {
        let end = Instant::now() + PATIENCE;
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            if line.starts_with(&format!("✓ {step} ")) {
                return true;
            }
        }
        assert!(Instant::now() < end, "no line of `{step}`");
        false
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// How it ended.
    fn end(mut self) -> std::process::ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > end {
                self.child.kill().unwrap();
                panic!("the demo does not end");
            }
            pause();
        }
    }
}

/// The processes whose temporary folder is `folder`: the demo, QEMU, and who guards it.
fn processes(folder: &Path) -> BTreeSet<String> {
    let needle = [b"TMPDIR=", folder.as_os_str().as_bytes()].concat();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let marked = processes.filter(|process| {
        // A process without an environment is a zombie, or gone.
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == needle)
    });
    let shown = marked.map(|process| {
        let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
        format!(
            "{} {}",
            process.file_name().display(),
            String::from_utf8_lossy(&command).replace('\0', " ")
        )
    });
    shown.collect()
}

/// Between two looks at what nothing announces.
#[expect(clippy::disallowed_methods, reason = "every caller has a deadline")]
fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Waits until no process is left; the kernel announces the end of those that are not ours to
/// nobody.
#[track_caller]
fn assert_no_process(folder: &Path, phase: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        let left = processes(folder);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "{phase}: still running: {left:#?}");
        pause();
    }
}

/// An image whose flashing takes a while: pico's, and many zeros.
fn large_image(folder: &Path) -> PathBuf {
    let path = folder.join("large.img");
    pico::write_to(&path).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(64 << 30).unwrap();
    path
}

/// Starts the demo, sends the signal when the phase begins, and says how the demo ended. A signal
/// that came too late is sent again, to another demo.
fn end_in(
    phase: &str,
    after: Option<&str>,
    signal: Signal,
    folder: &Path,
    large: &Path,
) -> std::process::ExitStatus {
    let mut status = try_to_end_in(phase, after, signal, folder, large);
    for _ in 1..TRIES {
        if !status.success() || matches!(phase, "close" | "end") {
            break;
        }
        status = try_to_end_in(phase, after, signal, folder, large);
    }
    status
}

fn try_to_end_in(
    phase: &str,
    after: Option<&str>,
    signal: Signal,
    folder: &Path,
    large: &Path,
) -> std::process::ExitStatus {
    let image = (phase == "flash").then_some(large);
    let demo = Demo::start(folder, image);
    if let Some(step) = after {
        assert!(demo.wait_for(step), "the demo ended before `{phase}`");
    }
    if phase == "flash" {
        // Well within: something was written already.
        let end = Instant::now() + PATIENCE;
        while written(folder) == 0 {
            assert!(Instant::now() < end, "nothing is flashed");
            pause();
        }
    }
    demo.signal(signal);
    demo.end()
}

/// The largest size of a file in the machine's folder.
fn written(folder: &Path) -> u64 {
    let machines = fs::read_dir(folder).into_iter().flatten().flatten();
    let inner =
        machines.flat_map(|machine| fs::read_dir(machine.path()).into_iter().flatten().flatten());
    inner
        .filter_map(|file| file.metadata().ok())
        .map(|file| file.len())
        .filter(|length| *length > 4096)
        .max()
        .unwrap_or(0)
}

#[test]
fn a_whole_run_leaves_nothing() {
    if !guest::qemu_available(guest::Arch::X86_64) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo::start(folder.path(), None);
    assert!(demo.wait_for("open"));
    // As soon as it runs: the demo does not wait for this.
    let runs = || processes(folder.path()).iter().any(|one| one.contains("qemu-system-x86_64"));
    assert!(blocking_eventually(PATIENCE, runs), "no QEMU runs");
    assert!(demo.wait_for("total;"), "the demo failed");
    assert!(demo.end().success());
    assert_no_process(folder.path(), "a whole run");
    assert_eq!(files(folder.path()), [] as [PathBuf; 0]);
}

#[test]
fn a_machine_that_dies_ends_the_step_at_once() {
    if !guest::qemu_available(guest::Arch::X86_64) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let images = tempfile::tempdir().unwrap();
    let nothing = images.path().join("nothing.img");
    fs::write(&nothing, vec![0; 1 << 20]).unwrap();
    // It waits for a login for a quarter of an hour.
    let demo = Demo::start_guest(folder.path(), "other", Some(&nothing));
    assert!(demo.wait_for("power on"));
    let processes = processes(folder.path());
    let qemu = processes.iter().find(|process| process.contains("qemu-system-x86_64")).unwrap();
    let pid = qemu.split(' ').next().unwrap().parse().ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    assert_eq!(demo.end().code(), Some(1));
    assert_no_process(folder.path(), "log in");
    assert_eq!(files(folder.path()), [] as [PathBuf; 0]);
}

#[test]
fn ctrl_c_in_each_phase_leaves_nothing() {
    if !guest::qemu_available(guest::Arch::X86_64) {
        return;
    }
    let images = tempfile::tempdir().unwrap();
    let large = large_image(images.path());
    for (phase, after) in PHASES {
        let folder = tempfile::tempdir().unwrap();
        if phase == "start" {
            // Before it listens for signals it has nothing: it just ends.
            end_in(phase, after, Signal::INT, folder.path(), &large);
        } else {
            let status = end_in(phase, after, Signal::INT, folder.path(), &large);
            let over = matches!(phase, "close" | "end") && status.success();
            assert!(over || status.code() == Some(130), "{phase}: {status}");
        }
        assert_no_process(folder.path(), phase);
        assert_eq!(files(folder.path()), [] as [PathBuf; 0], "{phase}");
    }
}

#[test]
fn kill_9_in_each_phase_leaves_no_process_and_the_next_start_sweeps_the_files() {
    if !guest::qemu_available(guest::Arch::X86_64) {
        return;
    }
    let images = tempfile::tempdir().unwrap();
    let large = large_image(images.path());
    let folder = tempfile::tempdir().unwrap();
    let mut swept = 0;
    for (phase, after) in PHASES {
        let before = files(folder.path());
        let status = end_in(phase, after, Signal::KILL, folder.path(), &large);
        assert!(!status.success() || matches!(phase, "close" | "end"), "{phase}: {status}");
        assert_no_process(folder.path(), phase);
        // Files of the previous phases are removed once the machine is created.
        if !matches!(phase, "start" | "open") {
            let stayed: Vec<_> =
                files(folder.path()).into_iter().filter(|file| before.contains(file)).collect();
            assert_eq!(stayed, [] as [PathBuf; 0], "{phase}");
            swept += before.len();
        }
    }
    assert!(swept > 0, "nothing was ever left, so nothing was shown");
    assert!(Demo::start(folder.path(), None).end().success());
    assert_eq!(files(folder.path()), [] as [PathBuf; 0]);
}

/// Pico serves no page: this phase needs the tiny Linux guest.
#[test]
fn ctrl_c_and_kill_9_while_a_page_is_fetched_leave_nothing() {
    if !guest::qemu_available(guest::Arch::X86_64) {
        return;
    }
    let Some(image) = guest::tiny_linux(guest::Arch::X86_64) else { return };
    for signal in [Signal::INT, Signal::KILL] {
        let folder = tempfile::tempdir().unwrap();
        let demo = Demo::start_guest(folder.path(), "tiny", Some(&image));
        assert!(demo.wait_for("log in"), "the demo ended before `fetch`");
        demo.signal(signal);
        let status = demo.end();
        assert_no_process(folder.path(), "fetch");
        if signal == Signal::INT {
            assert_eq!(status.code(), Some(130), "{status}");
        } else {
            assert!(!files(folder.path()).is_empty(), "nothing was left, so nothing was shown");
            assert!(Demo::start(folder.path(), None).end().success());
        }
        assert_eq!(files(folder.path()), [] as [PathBuf; 0], "{signal:?}");
    }
}
