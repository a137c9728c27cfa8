//! Finds processes that outlived the tests that started them, by a mark in their environment.
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::process;

/// The environment variable that every descendant of a test run inherits.
pub(super) const VARIABLE: &str = "JUMPSTARTER_TEST_RUN";
/// How long processes may take to end after the tests: what is being killed is not left behind.
const GRACE: Duration = Duration::from_secs(10);

/// The processes that carry the mark and do not end by themselves, for people: id and command line.
///
/// Empty on systems without /proc.
pub(super) async fn find(mark: &OsStr) -> Result<Vec<String>> {
    let end = Instant::now() + GRACE;
    loop {
        let left = marked(Path::new("/proc"), mark);
        if left.is_empty() || Instant::now() >= end {
            return Ok(left);
        }
        process::check_interrupt()?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn marked(proc: &Path, mark: &OsStr) -> Vec<String> {
    let mut needle = OsString::from(VARIABLE);
    needle.push("=");
    needle.push(mark);
    let processes = fs::read_dir(proc).into_iter().flatten().flatten();
    let mut found = Vec::new();
    for process in processes {
        // A process without an environment is a zombie, a kernel thread, another user's, or gone.
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|variable| variable == needle.as_bytes()) {
            let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            found.push(format!("{} {}", process.file_name().display(), command.trim()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Run;

    #[tokio::test]
    async fn a_marked_process_is_found_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().as_os_str();
        // Out of the group and the session, as a daemon would be.
        let run = Run::new("sh").args(["-c", "setsid sleep 1000 & exit 0"]).env(VARIABLE, mark);
        let child = run.spawn_shown().await.unwrap();
        run.wait(&child).await.unwrap();
        let left = || marked(Path::new("/proc"), mark);
        let end = Instant::now() + Duration::from_secs(30);
        while !left().iter().any(|process| process.ends_with(" sleep 1000")) {
            assert!(Instant::now() < end, "not found: {:?}", left());
            tokio::task::yield_now().await;
        }
        child.kill();
        child.wait_gone().await;
        assert!(find(mark).await.unwrap().is_empty());
    }
}
