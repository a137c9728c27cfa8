//! Modules and drivers that do to their process what they like.

mod support;

use std::path::Path;

use jumpstarter_driver_core::Device;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_python::{Looked, look};
use serde_json::{Value, json};
use support::in_time;
use support::lab::{Lab, call, python};

/// A driver of a module; what the module does when it is imported comes before.
const DRIVER: &str = "
import os, signal, subprocess, sys, threading, time
from jumpstarter.driver import Driver, export

class Unruly(Driver):
    @classmethod
    def client(cls):
        return 'unruly.Client'

    @export
    def pid(self):
        return os.getpid()

    @export
    def ask(self):
        ASKED.set()
        return ANSWERED.wait(20)

    @export
    def run(self):
        return subprocess.run(['echo', 'hello'], capture_output=True, text=True, check=True).stdout

    @export
    def say(self):
        print('a word')
        sys.stderr.write('and another\\n')
        os.kill(os.getpid(), signal.SIGKILL)
";

const ENTRY: &str = "  it: {type: unruly.Unruly}\n  lab: {type: lab_driver.Lab}\n";

fn lab(python: &Path, at_import: &str) -> Lab {
    let lab = Lab::new(python, ENTRY);
    lab.write("unruly.py", &format!("{DRIVER}\n{at_import}\n"));
    lab
}

async fn works(device: &Device, path: &str, method: &str) -> Value {
    call(device, path, method, vec![]).await.unwrap_or_else(|error| panic!("{}", error.report()))
}

#[tokio::test]
async fn python_hosts_a_module_that_starts_threads() {
    let Some(python) = python() else { return };
    let lab = lab(
        &python,
        "ASKED, ANSWERED = threading.Event(), threading.Event()
def answer():
    ASKED.wait()
    ANSWERED.set()
threading.Thread(target=answer, daemon=True).start()",
    );
    let device = lab.open().await;
    assert_eq!(works(&device, "it", "ask").await, json!(true));
    works(&device, "lab", "pid").await;
    in_time(device.close()).await.unwrap();
}

#[tokio::test]
async fn python_hosts_a_module_that_closes_the_standard_streams() {
    let Some(python) = python() else { return };
    for at_import in [
        "print('imported')\nsys.stdout.close(); sys.stderr.close()",
        "for number in range(3):\n    os.close(number)",
        "sys.stdout = sys.stderr = None",
    ] {
        let lab = lab(&python, at_import);
        let device = lab.open().await;
        assert_eq!(works(&device, "it", "run").await, json!("hello\n"), "{at_import}");
        let error = call(&device, "it", "say", vec![]).await.unwrap_err();
        let report = error.report();
        assert!(report.contains("its last words: a word\nand another"), "{at_import}: {report}");
        works(&device, "lab", "pid").await;
        in_time(device.close()).await.unwrap();
    }
}

#[tokio::test]
async fn python_hosts_a_module_that_handles_signals() {
    let Some(python) = python() else { return };
    for handler in ["signal.SIG_IGN", "lambda *_: os._exit(9)"] {
        let at_import = format!(
            "for one in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(one, {handler})"
        );
        let lab = lab(&python, &at_import);
        let device = lab.open().await;
        works(&device, "it", "pid").await;
        works(&device, "lab", "pid").await;
        in_time(device.close()).await.unwrap();
    }
}

/// Those that it started when it was imported belong to the process that imported it.
#[tokio::test]
async fn python_hosts_a_module_that_starts_processes() {
    let Some(python) = python() else { return };
    let lab = lab(
        &python,
        "STARTED = subprocess.Popen(['sleep', '1000'])
if os.fork() == 0:
    time.sleep(1000)
    os._exit(0)",
    );
    let device = lab.open().await;
    works(&device, "it", "pid").await;
    in_time(device.close()).await.unwrap();
}

async fn fails(lab: &Lab) -> String {
    let error = lab.fails().await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
    error.report()
}

#[tokio::test]
async fn python_hosts_nothing_that_ends_its_process() {
    let Some(python) = python() else { return };
    let leaves = "print('I leave', file=sys.stderr, flush=True)\nos._exit(7)";
    let report = fails(&lab(&python, leaves)).await;
    assert!(report.contains("I leave") && report.contains("7"), "{report}");
    // As does a driver when it is made.
    let made = "def leave(self):
    print('I leave', flush=True)
    os._exit(7)
Unruly.__post_init__ = leave";
    let report = fails(&lab(&python, made)).await;
    let expected = "the Python process of `it` ended with exit code 7; its last words: I leave";
    assert!(report.contains(expected), "{report}");
}

#[tokio::test]
async fn python_hosts_nothing_whose_modules_are_missing() {
    let Some(python) = python() else { return };
    let name = python.display();
    let dependent = lab(&python, "import no_such_dependency");
    let error = dependent.fails().await;
    let report = error.report();
    let expected = format!(
        "opening `it` (driver python): `unruly.Unruly` cannot be imported: No module named \
         'no_such_dependency'\nhint: `{name} -m pip install no-such-dependency` may bring it"
    );
    assert_eq!((error.kind(), &*report), (ErrorKind::NotFound, &*expected));
}

#[test]
fn python_hosts_no_module_that_cannot_be_imported() {
    let Some(python) = python() else { return };
    let dependent = lab(&python, "");
    let folder = Some(dependent.folder.path());
    for (at_import, expected) in [
        ("import no_such_dependency", "No module named 'no_such_dependency'"),
        ("sys.exit('no relay here')", "no relay here"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("1 +", "invalid syntax (unruly.py, line 29)"),
    ] {
        dependent.write("unruly.py", &format!("{DRIVER}\n{at_import}\n"));
        let classes = ["lab_driver.Lab".to_owned(), "unruly.Unruly".to_owned()];
        let looked = look(python.to_str(), folder, &classes).unwrap();
        let [Looked::Found(_), Looked::Missing { message, .. }] = &looked[..] else {
            panic!("{at_import}: {looked:?}");
        };
        let message = message.strip_prefix("the module `unruly` cannot be imported: ");
        assert_eq!(message, Some(expected));
    }
    // A thread of a module does not keep the answer.
    dependent.write("unruly.py", &format!("{DRIVER}\n{THREAD}\n"));
    let looked = look(python.to_str(), folder, &["unruly.Unruly".to_owned()]).unwrap();
    assert!(matches!(&looked[0], Looked::Found(_)), "{looked:?}");
}

/// It never ends.
const THREAD: &str = "threading.Thread(target=threading.Event().wait).start()";
