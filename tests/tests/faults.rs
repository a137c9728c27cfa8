//! The fault campaign, briefly: some rounds of known seeds.

use std::time::Duration;

use jumpstarter_driver_testkit::guest;
use jumpstarter_supervise::{Command, run_unchecked};

/// For all rounds, on a busy machine.
const LIMIT: Duration = Duration::from_secs(400);

#[tokio::test]
async fn every_promise_holds_in_some_rounds() {
    if !guest::qemu_available(guest::Arch::X86_64) {
        return;
    }
    // The figures go below the current folder.
    let folder = tempfile::tempdir().unwrap();
    let campaign = Command::new(env!("CARGO_BIN_EXE_faults")).current_dir(folder.path());
    let campaign = campaign.args(["--rounds", "12", "--seed", "1", "--verbose"]);
    let output = run_unchecked(campaign, LIMIT).await.unwrap();
    let text = output.stdout_text();
    assert!(
        output.status.success() && text.contains("\n12 rounds: 0 orphans"),
        "{text}\n{}",
        output.stderr
    );
    assert!(folder.path().join("target/faults.json").is_file());
}
