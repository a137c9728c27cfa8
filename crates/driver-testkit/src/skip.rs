//! Skips that are reported and counted.

use std::io::Write;

use crate::isolated;

/// Reports that the calling test is skipped, and why: on its output, and as a line (its name, a
/// tab, the reason) in the file that `JUMPSTARTER_SKIP_LOG` names. The test then returns.
///
/// Call it on the test's thread: the name is the thread's, or nextest's.
pub fn skip(reason: &str) {
    skip_test(&name(), reason);
}

#[expect(clippy::print_stdout, reason = "a skip is reported on the test's output")]
pub(crate) fn skip_test(name: &str, reason: &str) {
    println!("skipped: {name}: {reason}");
    let Some(log) = std::env::var_os("JUMPSTARTER_SKIP_LOG") else { return };
    let written =
        std::fs::OpenOptions::new().create(true).append(true).open(&log).and_then(|mut log| {
            // One write: other tests append at the same time.
            log.write_all(format!("{name}\t{}\n", reason.replace('\n', " ")).as_bytes())
        });
    if let Err(error) = written {
        println!("the skip could not be noted in {}: {error}", log.display());
    }
}

fn name() -> String {
    if let Ok(name) = std::env::var(isolated::NAME) {
        return name;
    }
    let thread = std::thread::current();
    match thread.name() {
        Some(name) if name != "main" && !name.starts_with("tokio-") => name.to_owned(),
        _ => std::env::var("NEXTEST_TEST_NAME").unwrap_or_else(|_| "a test".to_owned()),
    }
}
