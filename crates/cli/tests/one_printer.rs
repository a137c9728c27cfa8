//! Text leaves the program in one place, which makes it safe: no other file writes to standard
//! output and error.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

/// Those that may take hold of a standard stream, and why.
const ALLOWED: [(&str, &str); 4] = [
    ("environment.rs", "it makes safe what it writes"),
    ("print.rs", "a panic has no environment; what it says is made safe"),
    ("terminal.rs", "consoles and images go as they are"),
    ("j/pump.rs", "byte streams go as they are"),
];

fn check(folder: &Path, root: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            check(&path, root, found);
            continue;
        }
        let name = path.strip_prefix(root).unwrap().to_str().unwrap();
        if ALLOWED.iter().any(|(allowed, _)| *allowed == name) {
            continue;
        }
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let takes = [
                "io::stdout()",
                "io::stderr()",
                "stdout().lock",
                "stderr().lock",
                "println!(",
                "eprintln!(",
            ];
            if takes.iter().any(|taking| line.contains(taking)) && !line.contains("is_terminal()") {
                found.push(format!("{name}: {}", line.trim()));
            }
        }
    }
}

#[test]
fn only_one_file_writes_text() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    check(&root, &root, &mut found);
    assert!(found.is_empty(), "{found:#?}");
}
