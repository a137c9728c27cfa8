//! Does what the tutorial of the book says: types its driver, runs its commands, and compares what
//! they print. Python's part is in `tests/interop/test_book.py`.
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::Run;
use crate::workspace;

/// The part that `cargo xtask interop` does.
const PYTHON: &str = "\n## 7. From Python\n";
/// The prompt of a shell of `jmp`, before a command.
const PROMPT: &str = "➤ ";
/// Where the page serves its device.
const ADDRESS: &str = "127.0.0.1:1234";

/// The first build of a driver compiles all that it links.
const LIMIT: Duration = Duration::from_secs(45 * 60);

/// A command of the page.
#[derive(Debug, Default, PartialEq)]
struct Command {
    line: String,
    /// What is typed at the shell that it starts.
    inner: Vec<String>,
    /// The lines that it prints, as the page shows them. If there are any, it may fail.
    prints: Vec<String>,
}

/// One thing that the page says to do.
#[derive(Debug, PartialEq)]
enum Step {
    Run(Command),
    /// The driver's source.
    Type(String),
}

/// Follows the page in the folder `drivers`.
pub(super) async fn follow(drivers: &Path, target: &Path) -> Result<()> {
    let page = workspace::root().join("docs/author/tutorial.md");
    let text = std::fs::read_to_string(&page).context("reading the tutorial")?;
    let steps = steps(text.split(PYTHON).next().unwrap_or_default());
    let answers = tempfile::tempdir().context("creating a temporary folder")?;
    let free = std::net::TcpListener::bind("127.0.0.1:0").context("finding a free port")?;
    let address = free.local_addr().context("finding a free port")?.to_string();
    drop(free);
    let script = script(&steps, answers.path())?.replace(ADDRESS, &address);
    let bash = Run::new("bash").args(["-c", &script]).folder(drivers).deadline(LIMIT);
    Run::cargo().args(["build", "--quiet", "-p", "jumpstarter-cli", "--bin", "jmp"]).show().await?;
    let jmp = workspace::target().await?.join("debug/jmp");
    let bash = bash.env("CARGO_TARGET_DIR", target).env("RUSTFLAGS", "-D warnings");
    bash.env("JMP", jmp).show().await?;
    for (number, step) in steps.iter().enumerate() {
        let Step::Run(command) = step else { continue };
        if command.prints.is_empty() {
            continue;
        }
        let file = answers.path().join(number.to_string());
        let printed = std::fs::read_to_string(file).context("reading what a command printed")?;
        let mut printed_lines = printed.lines().map(plain);
        for line in &command.prints {
            let line = plain(&line.replace(ADDRESS, &address));
            let is_printed = printed_lines.any(|printed| printed == line);
            ensure!(is_printed, "`{}` does not print `{line}`, but:\n{printed}", command.line);
        }
    }
    Ok(())
}

/// A line without the widths of its columns.
fn plain(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The commands and the driver of a page, in order.
fn steps(page: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for (index, block) in page.split("```").enumerate() {
        let Some((kind, text)) = block.split_once('\n').filter(|_| index % 2 == 1) else {
            continue;
        };
        match kind {
            "console" => commands(text, &mut steps),
            "rust" if text.contains("register_driver!") => {
                let shown = text.lines().filter(|line| !line.starts_with("# "));
                let shown = shown.map(|line| line.to_owned() + "\n");
                steps.push(Step::Type(shown.collect()));
            }
            _ => {}
        }
    }
    steps
}

fn commands(block: &str, steps: &mut Vec<Step>) {
    for line in block.lines() {
        if let Some(line) = line.strip_prefix("$ ") {
            steps.push(Step::Run(Command { line: line.to_owned(), ..Command::default() }));
        } else if let Some(Step::Run(command)) = steps.last_mut() {
            match line.split_once(PROMPT) {
                Some((_, inner)) => command.inner.push(inner.to_owned()),
                None => command.prints.push(line.to_owned()),
            }
        }
    }
}

/// A script of bash that does the steps; what a command prints goes to `answers`, into a file of
/// its number.
fn script(steps: &[Step], answers: &Path) -> Result<String> {
    let mut script = "\
        set -eu\n\
        jmp() { \"$JMP\" \"$@\"; }\n\
        cargo() { command cargo \"$1\" --quiet \"${@:2}\"; }\n\
        trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n"
        .to_owned();
    for (number, step) in steps.iter().enumerate() {
        let file = answers.join(number.to_string());
        let file = file.display();
        match step {
            Step::Type(text) => {
                let typed = answers.join(format!("{number}.rs"));
                std::fs::write(&typed, text).context("writing the driver")?;
                writeln!(script, "cp '{}' src/lib.rs\ncargo test", typed.display())?;
            }
            // It serves until the script ends.
            Step::Run(command) if command.prints.iter().any(|line| line.starts_with("ready ")) => {
                let serve = command.line.replacen("cargo run", "cargo run --quiet", 1);
                writeln!(script, "mkfifo '{file}.pipe'\n(exec {serve}) > '{file}.pipe' &")?;
                writeln!(script, "exec 3< '{file}.pipe'\nhead -n 1 <&3 > '{file}'")?;
            }
            Step::Run(command) => {
                let inner = match command.inner.is_empty() {
                    true => String::new(),
                    false => format!(" -- sh -ec '{}'", command.inner.join("\n")),
                };
                let output = match command.prints.is_empty() {
                    true => String::new(),
                    false => format!(" > '{file}' 2>&1 || true"),
                };
                writeln!(script, "{}{inner}{output}", command.line)?;
            }
        }
    }
    Ok(script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_commands_and_a_driver() {
        let page = "x\n```console\n$ a b\nc\n$ d\n~ ⚡lab ➤ e\nf\n```\n```rust,ignore\nno\n```\n\
                    ```rust\nregister_driver!(A);\n# fn main() {}\n```\n";
        let command = |line: &str, inner: &[&str], prints: &[&str]| {
            let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
            Step::Run(Command { line: line.to_owned(), inner: owned(inner), prints: owned(prints) })
        };
        assert_eq!(
            steps(page),
            [
                command("a b", &[], &["c"]),
                command("d", &["e"], &["f"]),
                Step::Type("register_driver!(A);\n".to_owned()),
            ]
        );
    }
}
