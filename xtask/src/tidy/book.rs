//! The rules for Markdown: every page is in the book, and every relative link leads somewhere.
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};

/// The folder of the book, and its table of contents.
const BOOK: &str = "docs";
const CONTENTS: &str = "docs/SUMMARY.md";

/// What is wrong with the Markdown files among `names`, which are relative to `root`.
pub(super) fn check(root: &Path, names: &[String]) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for name in names.iter().filter(|name| name.ends_with(".md")) {
        let file = root.join(name);
        // A file that git still tracks may be deleted already.
        if !file.exists() {
            continue;
        }
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {name}"))?;
        for (line, target) in links(&text) {
            if let Some(why) = broken(root, name, &target) {
                complaints.push(format!("{name}:{line}: link to `{target}`: {why}"));
            }
        }
    }
    let contents = std::fs::read_to_string(root.join(CONTENTS))
        .with_context(|| format!("reading {CONTENTS}"))?;
    let listed: BTreeSet<PathBuf> =
        links(&contents).into_iter().map(|(_, page)| Path::new(BOOK).join(page)).collect();
    for name in names.iter().filter(|name| name.starts_with("docs/") && name.ends_with(".md")) {
        if name != CONTENTS && root.join(name).exists() && !listed.contains(Path::new(name)) {
            complaints.push(format!("{name}: is not in {CONTENTS}"));
        }
    }
    Ok(complaints)
}

/// The targets of inline links outside of code, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let (mut found, mut is_code) = (Vec::new(), false);
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        if is_code {
            continue;
        }
        let mut rest = line;
        while let Some(begin) = rest.find("](") {
            rest = &rest[begin + 2..];
            let Some(end) = rest.find(')') else { break };
            found.push((index + 1, rest[..end].to_owned()));
            rest = &rest[end..];
        }
    }
    found
}

/// Why a link of the file `name` leads nowhere, if it does.
fn broken(root: &Path, name: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let page = match path {
        "" => PathBuf::from(name),
        path => normal(&Path::new(name).parent().unwrap_or(Path::new("")).join(path)),
    };
    let file = root.join(&page);
    if !file.exists() {
        return Some(format!("there is no {}", page.display()));
    }
    if anchor.is_empty() || !path.is_empty() && !path.ends_with(".md") {
        return None;
    }
    let text = std::fs::read_to_string(&file).ok()?;
    let has = headings(&text).iter().any(|heading| heading == anchor);
    (!has).then(|| format!("{} has no heading `#{anchor}`", page.display()))
}

/// The path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

/// The anchors of a page's headings, as mdBook and GitHub make them.
fn headings(text: &str) -> Vec<String> {
    let mut is_code = false;
    let mut anchors = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        if is_code || !line.starts_with('#') {
            continue;
        }
        let words = line.trim_start_matches('#').trim().to_lowercase();
        let anchor = words
            .chars()
            .filter(|&c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c });
        anchors.push(anchor.collect());
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_code_are_none() {
        let text = "a [b](c.md) [d](e#f)\n```\n[x](y)\n```\n";
        assert_eq!(links(text), [(1, "c.md".to_owned()), (1, "e#f".to_owned())]);
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir(root.join("docs")).unwrap();
        std::fs::write(root.join("docs/a.md"), "# One `two`, three\n").unwrap();
        for (target, works) in [
            ("a.md", true),
            ("a.md#one-two-three", true),
            ("../docs/a.md", true),
            ("https://example.com/x", true),
            ("b.md", false),
            ("a.md#four", false),
            ("../a.md", false),
        ] {
            assert_eq!(broken(root, "docs/c.md", target).is_none(), works, "{target}");
        }
        std::fs::write(root.join(CONTENTS), "[a](a.md)\n").unwrap();
        std::fs::write(root.join("docs/b.md"), "").unwrap();
        let names = ["docs/a.md", "docs/b.md", CONTENTS].map(str::to_owned);
        let complaints = check(root, &names).unwrap();
        assert_eq!(complaints, ["docs/b.md: is not in docs/SUMMARY.md"]);
    }
}
