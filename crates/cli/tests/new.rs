//! `jmp new driver`: what it writes, and that it writes nothing half.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use insta::assert_snapshot;
use jumpstarter_supervise::{Command, run_unchecked};

/// What it prints, in a folder that is called `HERE`, the exit code last.
async fn new(here: &Path, words: &[&str]) -> String {
    let command = Command::new(env!("CARGO_BIN_EXE_jmp")).args(["new", "driver"]).args(words);
    let output = run_unchecked(command.current_dir(here), Duration::from_secs(60)).await.unwrap();
    let code = output.status.code().unwrap();
    format!("{}{}exit code {code}", output.stdout_text(), output.stderr)
        .replace(here.to_str().unwrap(), "HERE")
}

/// The files below a folder.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path.strip_prefix(folder).unwrap().display().to_string()),
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn it_writes_a_crate_with_its_name_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    for interface in ["power", "network", "serial", "flasher", "own"] {
        let name = format!("blue-{interface}-2");
        let said = new(folder.path(), &[&name, "--interface", interface]).await;
        let created = format!("created ./{name}; next: cd ./{name} && cargo test\nexit code 0");
        assert_eq!(said, created);
        let of_crate = folder.path().join(&name);
        for file in files(&of_crate) {
            let text = fs::read_to_string(of_crate.join(&file)).unwrap().to_lowercase();
            let placeholders = ["acme", "@dependencies@", "@python@", "@ignored@"];
            let is_filled_in =
                !placeholders.iter().any(|left| (file.clone() + &text).contains(left));
            assert!(is_filled_in, "{file}: {text}");
        }
        let lib = fs::read_to_string(of_crate.join("src/lib.rs")).unwrap();
        assert!(lib.contains(&format!("const NAME: &'static str = \"{name}\";")), "{lib}");
    }
    assert_snapshot!(files(&folder.path().join("blue-own-2")).join("\n"), @r"
    .gitignore
    Cargo.toml
    README.md
    lab.yaml
    python/jumpstarter_driver_blue_own_2/__init__.py
    python/jumpstarter_driver_blue_own_2/client.py
    python/pyproject.toml
    src/lib.rs
    src/main.rs
    tests/conformance.rs
    tests/elsewhere.rs
    ");
}

#[tokio::test]
async fn a_checkout_is_depended_on_by_path() {
    let folder = tempfile::tempdir().unwrap();
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    new(folder.path(), &["blue-lamp", "--path", checkout.to_str().unwrap()]).await;
    let manifest = fs::read_to_string(folder.path().join("blue-lamp/Cargo.toml")).unwrap();
    let facade = fs::canonicalize(checkout.join("crates/jumpstarter")).unwrap();
    let path = format!("jumpstarter = {{ path = \"{}\", default-features", facade.display());
    assert_eq!(manifest.matches(&path).count(), 2, "{manifest}");
    assert!(!manifest.contains("version = \"0.1\""), "{manifest}");
}

#[tokio::test]
async fn an_error_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("taken")).unwrap();
    assert_snapshot!(new(folder.path(), &["taken"]).await, @r"
    error: ./taken exists
    hint: choose another name, or another folder with --dir
    exit code 1
    ");
    assert_snapshot!(new(folder.path(), &["blue", "--dir", "nowhere"]).await, @r"
    error: nowhere is no folder
    hint: create it, or name another with --dir
    exit code 1
    ");
    assert_snapshot!(new(folder.path(), &["blue", "--path", "."]).await, @r"
    error: . is not a checkout of jumpstarter-rs
    hint: --path takes the folder that has crates/jumpstarter
    exit code 1
    ");
    let said = new(folder.path(), &["qemu"]).await;
    assert!(said.contains("that name is taken") && said.ends_with("exit code 2"), "{said}");
    assert_eq!(files(folder.path()), [""; 0]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
