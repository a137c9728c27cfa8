//! What children find around them: environment and folder.

use std::path::PathBuf;
use std::time::Duration;

use jumpstarter_driver_testkit::skip;
use jumpstarter_supervise::{Command, SuperviseError, run};

const LONG: Duration = Duration::from_secs(60);
/// The folder that the owner below deletes.
const FOLDER: &str = "SUPERVISE_TEST_FOLDER";

/// Run in a separate process by the test below: its secrets are in its environment, and its current
/// folder is deleted.
#[tokio::test]
async fn owner_with_secrets_in_a_deleted_folder() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        return;
    };
    std::fs::remove_dir(&folder).unwrap();
    assert!(std::env::current_dir().is_err());
    let error = run(Command::new("./tool"), LONG).await.unwrap_err().to_string();
    assert!(
        error.contains("`./tool`") && error.contains("the current folder was deleted"),
        "{error}"
    );
    let show = || Command::new("/bin/sh").args(["-c", "pwd -P; env"]);
    for (title, command) in [
        ("plain", show()),
        ("given", show().env("JMP_TOKEN", "hush-given")),
        ("only", show().env_only(&["PATH", "SUPERVISE_TEST_F*", "JMP_*"])),
        ("relative", Command::new("sh").args(["-c", "pwd"])),
    ] {
        println!("[{title}] {}", run(command, LONG).await.unwrap().stdout_text());
    }
}

#[tokio::test]
async fn children_get_no_secrets_and_a_folder_that_exists() {
    let folder = tempfile::tempdir().unwrap();
    let doomed = folder.path().join("doomed");
    std::fs::create_dir(&doomed).unwrap();
    let owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "surroundings::owner_with_secrets_in_a_deleted_folder", "--nocapture"])
        .current_dir(&doomed)
        .env(FOLDER, &doomed)
        .env("JMP_GRPC_PASSPHRASE", "hush-passphrase")
        .env("JMP_TOKEN", "hush-token")
        .env("JMP_DRIVERS_ALLOW", "UNSAFE");
    let said = run(owner, LONG).await.unwrap().stdout_text();
    let part = |title: &str| {
        let start = format!("[{title}] ");
        let rest = said.split_once(&start).unwrap_or_else(|| panic!("{title}: {said}")).1;
        rest.split("\n[").next().unwrap_or_default().to_owned()
    };
    for title in ["plain", "given", "only", "relative"] {
        assert!(part(title).starts_with("/\n"), "{title}: {said}");
    }
    assert!(!said.contains("hush-passphrase") && !said.contains("hush-token"), "{said}");
    assert!(
        part("plain").contains("JMP_DRIVERS_ALLOW=UNSAFE")
            && part("given").contains("JMP_TOKEN=hush-given")
    );
    assert!(
        part("only").contains("SUPERVISE_TEST_FOLDER=")
            && part("only").contains("JMP_DRIVERS_ALLOW=UNSAFE")
    );
    assert!(!part("only").contains("HOME="), "{said}");
}

/// In a process without devices.
const NO_DEVICES: &str = "SUPERVISE_TEST_NO_DEVICES";

#[tokio::test]
async fn a_missing_dev_null_is_named() {
    if std::env::var_os(NO_DEVICES).is_some() {
        let error = run(Command::new("true"), LONG).await.unwrap_err();
        assert!(matches!(error, SuperviseError::NotFound { .. }), "{error}");
        assert!(error.to_string().contains("/dev/null, which"), "{error}");
        assert!(error.hint().unwrap().contains("urandom in /dev"), "{error}");
        return;
    }
    let without = ["--user", "--map-root-user", "--mount", "sh", "-c"];
    let without =
        || Command::new("unshare").args(without).arg("mount -t tmpfs none /dev && \"$@\"");
    if run(without().args(["sh", "true"]), LONG).await.is_err() {
        return skip("this system permits no mount namespace");
    }
    let owner = without().arg("sh").arg(std::env::current_exe().unwrap());
    let name = "surroundings::a_missing_dev_null_is_named";
    run(owner.args(["--exact", name, "--nocapture"]).env(NO_DEVICES, "1"), LONG).await.unwrap();
}
