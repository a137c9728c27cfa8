//! The rules for prose: words that comments, messages and Markdown do without, doc comments that
//! only repeat a name, and the width of comments. `CONTRIBUTING.md` says how we write.
use super::prose::{self, Prose};

/// The widest line of a comment.
const COLUMNS: usize = 100;

/// Words, and what to write instead. Code in backticks may hold them.
const WORDS: &[(&[&str], &str)] = &[
    (&["tell", "tells", "told"], "`reports`, `says`, `shows` or `distinguishes`"),
    (&["whoever"], "the role: `the caller`, `the client`, `a program`"),
    (&["is gone", "are gone"], "`is closed`, `is removed`, `has ended` or `is lost`"),
    (&["of its own", "of their own"], "`its own`, `their own` or `a separate`"),
    (&["none where"], "`` `None` if ``, or `nothing if`"),
    (&["of which"], "two sentences, or `whose`"),
];

/// Words that say nothing beside a name.
const EMPTY: &[&str] = &["a", "an", "the", "its", "this", "of", "is", "as", "returns"];

/// What is wrong with the prose of a file, one line each: `name:line: what`.
pub(super) fn check(name: &str, text: &str) -> Vec<String> {
    let is_rust = name.ends_with(".rs");
    // The table above holds the words.
    if name.ends_with("tidy/words.rs") || !is_rust && !name.ends_with(".md") {
        return Vec::new();
    }
    let pieces = if is_rust { prose::of_rust(text) } else { prose::of_markdown(text) };
    let mut complaints: Vec<(usize, String)> = Vec::new();
    // Texts of tests are data, unless they repeat a message.
    let are_data = name.contains("tests/") || name.ends_with("tests.rs");
    for (index, piece) in pieces.iter().enumerate() {
        if are_data && is_rust && !piece.is_comment {
            continue;
        }
        // A phrase may go on in the next line.
        let next = pieces.get(index + 1).filter(|next| next.follows(piece));
        let words: Vec<String> = piece.words();
        let ahead: Vec<String> = next.map(Prose::words).unwrap_or_default();
        for (phrase, instead) in phrases(&words, &ahead) {
            complaints.push((piece.line, format!("`{phrase}`: write {instead}")));
        }
    }
    if is_rust {
        let lines: Vec<&str> = text.lines().collect();
        for piece in pieces.iter().filter(|piece| piece.is_comment) {
            let line = lines[piece.line - 1];
            let width = line.chars().count();
            // The row of a table has to be one line.
            let is_row = piece.text.trim_start_matches(['/', '!', ' ']).starts_with('|');
            if width > COLUMNS && !is_row {
                let what = format!("a comment of {width} columns: at most {COLUMNS}");
                complaints.push((piece.line, what));
            }
        }
        // Fixtures of tests are documented because they have to be.
        if !name.contains("tests/") {
            complaints.extend(repetitions(&lines));
        }
    }
    complaints.sort();
    complaints.into_iter().map(|(line, what)| format!("{name}:{line}: {what}")).collect()
}

/// The refused phrases that begin in `words`, and what to write instead.
fn phrases<'a>(words: &[String], ahead: &[String]) -> Vec<(&'a str, &'a str)> {
    let all: Vec<&str> = words.iter().chain(ahead).map(String::as_str).collect();
    let mut found = Vec::new();
    for begin in 0..words.len() {
        for (list, instead) in WORDS {
            let begins = |phrase: &&&str| {
                let parts: Vec<&str> = phrase.split(' ').collect();
                all[begin..].starts_with(&parts)
            };
            found.extend(list.iter().find(begins).map(|phrase| (*phrase, *instead)));
        }
    }
    found
}

/// Doc comments of one line that only repeat the name of their item.
fn repetitions(lines: &[&str]) -> Vec<(usize, String)> {
    let is_doc = |line: &str| line.trim_start().starts_with("/// ");
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        if !is_doc(line) || index > 0 && is_doc(lines[index - 1]) {
            continue;
        }
        let item = lines[index + 1..].iter().find(|line| !line.trim_start().starts_with("#["));
        let Some(name) = item.and_then(|item| declared(item)) else { continue };
        let name: Vec<String> = snake(name).split('_').map(stem).collect();
        let doc = prose::words(line);
        let is_empty = |word: &String| EMPTY.contains(&word.as_str()) || name.contains(&stem(word));
        // Code, such as a link, says what the name does not.
        if !line.contains('`') && doc.iter().all(is_empty) {
            found.push((index + 1, "repeats the name: say more, or nothing".to_owned()));
        }
    }
    found
}

/// The name that a line declares: of an item, a field or a variant.
fn declared(line: &str) -> Option<&str> {
    const BEFORE: &[&str] = &[
        "pub", "async", "const", "unsafe", "fn", "struct", "enum", "trait", "type", "static", "mod",
    ];
    let line = line.trim_start();
    if line.starts_with("//") {
        return None;
    }
    let mut names = line
        .split_whitespace()
        .skip_while(|word| BEFORE.contains(word) || word.starts_with("pub(") || *word == "super)");
    let name = names.next()?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    (end > 0).then(|| &name[..end])
}

/// `ADriverName` as `a_driver_name`; a constant's name in lower case.
fn snake(name: &str) -> String {
    let is_constant = !name.chars().any(char::is_lowercase);
    let mut snake = String::new();
    for (index, c) in name.chars().enumerate() {
        if c.is_uppercase() && index > 0 && !is_constant {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
}

/// The word without the ending of a genitive or a plural.
fn stem(word: &str) -> String {
    let word = word.strip_suffix("'s").unwrap_or(word);
    let is_plural = word.len() > 3 && !word.ends_with("ss");
    word.strip_suffix('s').filter(|_| is_plural).unwrap_or(word).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn finds(name: &str, text: &str, expected: &[&str]) {
        let complaints = check(name, text);
        assert_eq!(complaints.len(), expected.len(), "{complaints:?}");
        for (complaint, expected) in complaints.iter().zip(expected) {
            assert!(complaint.contains(expected), "{complaint} is not {expected}");
        }
    }

    #[test]
    fn refused_words_are_found_where_people_read() {
        finds("a.rs", "//! It tells.\n", &["a.rs:1: `tells`: write `reports`"]);
        finds("a.rs", "f(); // Whoever asks\n", &["a.rs:1: `whoever`"]);
        finds("a.rs", "error.with_hint(\"it is\n gone\");\n", &["a.rs:1: `is gone`"]);
        finds("a.rs", "/// A task of\n/// its own.\nfn f() {}\n", &["a.rs:1: `of its own`"]);
        finds("a.md", "# A\n\nTwo, of which one.\n", &["a.md:3: `of which`"]);
    }

    #[test]
    fn code_may_hold_them() {
        finds("a.rs", "fn tell() {} // calls `tell`\n", &[]);
        finds("a.md", "```\ntell\n```\nsee `told`\n", &[]);
        finds("a.rs", "let teller = \"teller\";\n", &[]);
        finds("a.rs", "// A task of\nf();\n// its own\n", &[]);
        finds("a.toml", "# it tells\n", &[]);
    }

    #[test]
    fn docs_that_repeat_the_name_are_found() {
        let repeats = "repeats the name";
        finds("a.rs", "struct A {\n    /// The driver.\n    driver: u8,\n}\n", &[repeats]);
        finds("a.rs", "/// Returns the driver's name.\npub fn driver_name() {}\n", &[repeats]);
        finds(
            "a.rs",
            "/// A disk image.\n#[derive(Debug)]\npub(crate) struct DiskImage;\n",
            &[repeats],
        );
        finds("a.rs", "/// The driver, as configured.\ndriver: u8,\n", &[]);
        finds("a.rs", "/// The driver.\n/// It is on.\ndriver: u8,\n", &[]);
    }

    #[test]
    fn wide_comments_are_found() {
        finds("a.rs", &format!("// {}\n", "a".repeat(98)), &["101 columns"]);
        finds("a.rs", &format!("// {}\n", "a".repeat(97)), &[]);
    }
}
