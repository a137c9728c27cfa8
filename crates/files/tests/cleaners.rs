//! Programs that tidy the temporary folder, against a folder whose owner lives.

use std::fs;
use std::time::Duration;

use jumpstarter_driver_testkit::skip;
use jumpstarter_files::RuntimeDir;
use jumpstarter_supervise::{Command, SuperviseError, run_blocking};

const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn systemd_leaves_a_folder_with_an_owner_alone() {
    let place = tempfile::tempdir().unwrap();
    let folder = RuntimeDir::create_in(&[place.path().to_owned()], "qemu").unwrap();
    let abandoned = place.path().join("jmp-qemu-killed");
    fs::create_dir(&abandoned).unwrap();
    for folder in [folder.path(), &abandoned] {
        fs::write(folder.join("image"), "x").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap();
    }
    let config = place.path().join("clean.conf");
    // Everything is too old, at once.
    fs::write(&config, format!("e {} - - - 0\n", place.path().display())).unwrap();
    let clean = Command::new("systemd-tmpfiles").arg("--clean").arg(&config);
    match run_blocking(clean, DEADLINE) {
        Ok(_) => {}
        Err(SuperviseError::NotFound { .. }) => return skip("systemd-tmpfiles is not installed"),
        Err(error) => panic!("{error}"),
    }
    assert!(!abandoned.join("image").exists(), "it cleans nothing");
    assert!(folder.file("image").exists() && folder.file("socket").exists());
    assert!(!folder.ensure().unwrap());
}
