//! The rules for a single file. The words they look for are put together here, so that this file
//! passes too.

/// The most lines of a Rust file that says no reason for more.
const LONG: usize = 500;
/// The beginning of the reason, in a comment within the first [`REASON_WITHIN`] lines.
const REASON: &str = "// tidy: long because ";
const REASON_WITHIN: usize = 20;

/// Folders of some machine, as the beginning of a path.
const MACHINE_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/us", "er/")];

/// Hosts of package registries: those are configured on the machine, never by the project.
const REGISTRIES: &[&str] = &[
    concat!("index.crates", ".io"),
    concat!("static.crates", ".io"),
    concat!("py", "pi.org"),
    concat!("files.python", "hosted.org"),
    concat!("deb.deb", "ian.org"),
    concat!("security.deb", "ian.org"),
    concat!("snapshot.deb", "ian.org"),
    concat!("archive.ubu", "ntu.com"),
    concat!("registry.npm", "js.org"),
    concat!("proxy.go", "lang.org"),
];

/// Notes to oneself.
const NOTES: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];

/// Test attributes with which a failure can go unseen.
const ATTRIBUTES: &[(&str, &str)] = &[
    (concat!("#[ig", "nore"), "skip with a reason that is printed and counted"),
    (concat!("#[should_", "panic"), "assert on the error"),
];

/// What is wrong with a file, one line each: `name:line: what`.
pub(super) fn check(name: &str, text: &str) -> Vec<String> {
    if name == "Cargo.lock" {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    if name.ends_with(".rs") {
        complaints.extend(check_rust(name, text));
    }
    for (index, line) in text.lines().enumerate() {
        let mut complain = |what: String| complaints.push(format!("{name}:{}: {what}", index + 1));
        for path in MACHINE_PATHS.iter().filter(|path| has_path(line, path)) {
            complain(format!("`{path}` is a path of some machine"));
        }
        for host in REGISTRIES.iter().filter(|host| line.contains(**host)) {
            complain(format!(
                "`{host}` is a registry's host; use what the machine is configured for"
            ));
        }
        for word in NOTES.iter().filter(|word| has_word(line, word)) {
            complain(format!("`{word}`: do it, or leave it"));
        }
    }
    complaints
}

fn check_rust(name: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if !text.starts_with("//!") {
        complaints.push(format!("{name}:1: begin with a `//!` line that says what the file is"));
    }
    let lines = text.lines().count();
    let has_reason = text.lines().take(REASON_WITHIN).any(|line| line.starts_with(REASON));
    if lines > LONG && !has_reason {
        complaints.push(format!(
            "{name}: {lines} lines; divide it, or say `{REASON}...` at its beginning"
        ));
    }
    for (index, line) in text.lines().enumerate() {
        for (attribute, instead) in
            ATTRIBUTES.iter().filter(|(attribute, _)| line.contains(*attribute))
        {
            complaints.push(format!("{name}:{}: `{attribute}`: {instead}", index + 1));
        }
    }
    complaints
}

/// Whether the line has a path that begins so: `src` + `path` is another path.
fn has_path(line: &str, path: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || "_-.~}$*".contains(c);
    line.match_indices(path).any(|(at, _)| !line[..at].ends_with(inside))
}

/// Whether the line has this word by itself.
fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(part) && !line[at + word.len()..].starts_with(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn finds(name: &str, text: &str, expected: &str) {
        let complaints = check(name, text);
        assert!(complaints.len() == 1 && complaints[0].contains(expected), "{complaints:?}");
    }

    #[test]
    fn each_rule_finds_its_case() {
        finds("a.rs", "fn f() {}\n", "a.rs:1: begin with");
        finds("a.rs", &format!("//! A.\n{}", "//\n".repeat(500)), "501 lines");
        finds("a.md", &format!("see {}main/x", MACHINE_PATHS[0]), "a.md:1");
        finds("a.toml", &format!("\nurl = \"https://{}/x\"", REGISTRIES[0]), "a.toml:2");
        finds("a.yaml", &format!("# {}: later", NOTES[0]), "do it");
        finds("a.rs", &format!("//! A.\n{} = \"slow\"]\n", ATTRIBUTES[0].0), "a.rs:2");
        finds("a.rs", &format!("//! A.\n{}]\n", ATTRIBUTES[1].0), "assert on the error");
    }

    #[test]
    fn what_only_looks_alike_passes() {
        let long = format!("//! A.\n{REASON}a table\n{}", "//\n".repeat(600));
        assert_eq!(check("a.rs", &long), Vec::<String>::new());
        let alike =
            format!("frame{}x src{}y {}S", &MACHINE_PATHS[0][1..], MACHINE_PATHS[0], NOTES[0]);
        assert_eq!(check("a.md", &alike), Vec::<String>::new());
    }
}
