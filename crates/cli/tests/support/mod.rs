//! Running `jmp` in this process.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

#[path = "inside.rs"]
mod inside;

/// Runs `jmp` and answers its exit code, standard output and standard error.
pub fn jmp(arguments: &[&str]) -> (u8, String, String) {
    inside::run("jmp", arguments, &[])
}

/// What `jmp check lab.yaml` prints for this text, the exit code last.
pub fn check(text: &str) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("lab.yaml");
    std::fs::write(&file, text).expect("a new file");
    let (code, out, err) = jmp(&["check", file.to_str().expect("a plain path")]);
    let prefix = format!("{}/", folder.path().display());
    format!("{out}{err}exit code {code}").replace(&prefix, "")
}
