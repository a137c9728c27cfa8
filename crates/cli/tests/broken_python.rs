//! What `jmp check` says of hosted drivers when the Python that is to host them is broken.

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use insta::assert_snapshot;
use jumpstarter_driver_testkit::skip;
use jumpstarter_supervise::{Command, run_blocking};
use support::jmp;

/// Making a virtual environment may take so long.
const LIMIT: Duration = Duration::from_secs(120);

/// What `jmp check` prints of two hosted entries of a file that names this interpreter.
fn check(folder: &Path, interpreter: &str) -> String {
    let file = folder.join("lab.yaml");
    let text = format!(
        "python: {}/{interpreter}
export:
  power: {{type: jumpstarter_driver_power.driver.MockPower, python: true}}
  relay: {{type: lab_drivers.relay.Relay}}
",
        folder.display()
    );
    fs::write(&file, text).expect("a new file");
    let (code, out, err) = jmp(&["check", file.to_str().expect("a plain path")]);
    let prefix = format!("{}/", folder.display());
    format!("{out}{err}exit code {code}").replace(&prefix, "")
}

#[test]
fn an_interpreter_that_cannot_be_executed() {
    let folder = tempfile::tempdir().unwrap();
    let python = folder.path().join("python");
    fs::write(&python, "#!/no/such/python\n").unwrap();
    assert_snapshot!(check(folder.path(), "python"), @r"
    lab.yaml:3:17: export.power.type: `jumpstarter_driver_power.driver.MockPower` is a driver in Python, which cannot be asked: cannot run `python`: permission denied; is `python` a program? If so: chmod +x, and a file system without noexec
    exit code 1
    ");
    fs::set_permissions(&python, Permissions::from_mode(0o755)).unwrap();
    assert_snapshot!(check(folder.path(), "python"), @r"
    lab.yaml:3:17: export.power.type: `jumpstarter_driver_power.driver.MockPower` is a driver in Python, which cannot be asked: cannot run `python`: it exists, but the interpreter or loader that it names does not; install Python 3.11 or newer, or name it: `python:` beside `export:` in the file, or JMP_PYTHON
    exit code 1
    ");
}

/// The program has a driver of the class of `power`, which the entry names already: the hint is not
/// to name it.
#[test]
fn an_environment_without_the_packages() {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new("python3").args(["-m", "venv", "--without-pip"]);
    if let Err(error) = run_blocking(made.arg(folder.path().join("venv")), LIMIT) {
        return skip(&format!("python3 makes no virtual environment: {error}"));
    }
    assert_snapshot!(check(folder.path(), "venv/bin/python"), @r"
    lab.yaml:3:17: export.power.type: venv/bin/python lacks Jumpstarter's packages: No module named 'jumpstarter'; venv/bin/python -m pip install jumpstarter-driver-power
    lab.yaml:4:17: export.relay.type: venv/bin/python lacks Jumpstarter's packages: No module named 'jumpstarter'; venv/bin/python -m pip install jumpstarter
    exit code 1
    ");
}
