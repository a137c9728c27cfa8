//! Finds what people read in a file: comments and texts of Rust, Markdown outside of code.

/// A line of prose, or the part of a line.
#[derive(Debug, PartialEq)]
pub(super) struct Prose {
    /// From 1.
    pub(super) line: usize,
    pub(super) is_comment: bool,
    pub(super) text: String,
}

impl Prose {
    /// Whether a sentence may go on from `before` to here.
    pub(super) fn follows(&self, before: &Self) -> bool {
        self.is_comment == before.is_comment && self.line == before.line + 1
    }

    pub(super) fn words(&self) -> Vec<String> {
        words(&self.text)
    }
}

/// The words of a line in lower case, without the code in backticks.
pub(super) fn words(line: &str) -> Vec<String> {
    let outside: Vec<&str> = line.split('`').step_by(2).collect();
    outside
        // Code parts a phrase.
        .join(" _ ")
        .split(|c: char| !c.is_alphanumeric() && !"'._".contains(c))
        .map(|word| word.trim_end_matches('.').to_lowercase())
        .filter(|word| !word.is_empty())
        .collect()
}

/// The lines of Markdown outside of code.
pub(super) fn of_markdown(text: &str) -> Vec<Prose> {
    let mut is_code = false;
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            found.push(Prose { line: index + 1, is_comment: false, text: line.to_owned() });
        }
    }
    found
}

/// The comments and the string literals of Rust, line by line.
pub(super) fn of_rust(text: &str) -> Vec<Prose> {
    let mut found: Vec<Prose> = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let (length, is_comment) = match first {
            '/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), Some(true)),
            '"' => (string_length(rest), Some(false)),
            'r' if is_raw(rest) => (raw_length(rest), Some(false)),
            '\'' => (character_length(rest), None),
            'b' | 'c' if is_raw(&rest[1..]) => (1, None),
            // A name may end in an `r`.
            _ if first.is_alphanumeric() => {
                (rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len()), None)
            }
            _ => (first.len_utf8(), None),
        };
        let (piece, after) = rest.split_at(length);
        if let Some(is_comment) = is_comment {
            for (index, text) in piece.lines().enumerate() {
                found.push(Prose { line: line + index, is_comment, text: text.to_owned() });
            }
        }
        line += piece.matches('\n').count();
        rest = after;
    }
    found
}

/// The length of the string literal that begins here.
fn string_length(rest: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn is_raw(rest: &str) -> bool {
    rest.strip_prefix('r').is_some_and(|rest| rest.trim_start_matches('#').starts_with('"'))
}

fn raw_length(rest: &str) -> usize {
    let hashes = rest[1..].chars().take_while(|c| *c == '#').count();
    let end = format!("\"{}", "#".repeat(hashes));
    let begin = hashes + 2;
    rest[begin..].find(&end).map_or(rest.len(), |at| begin + at + end.len())
}

/// The length of a character literal, or of the quote of a lifetime.
fn character_length(rest: &str) -> usize {
    let mut inside = rest[1..].char_indices();
    match inside.next() {
        Some((_, '\\')) => rest[3..].find('\'').map_or(1, |at| at + 4),
        Some(_) => match inside.next() {
            Some((at, '\'')) => at + 2,
            _ => 1,
        },
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_texts_are_found() {
        let text =
            "fn f<'a>() { // one\n    g('\"', '\\'', \"two\nthree \\\"\", r#\"fo\"ur\"#);\n}\n";
        let found: Vec<(usize, bool, String)> = of_rust(text)
            .into_iter()
            .map(|prose| (prose.line, prose.is_comment, prose.text))
            .collect();
        let expected = [
            (1, true, "// one".to_owned()),
            (2, false, "\"two".to_owned()),
            (3, false, "three \\\"\"".to_owned()),
            (3, false, "r#\"fo\"ur\"#".to_owned()),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn words_are_those_outside_of_code() {
        let words = words("/// A driver's `name`, e.g. Its.");
        assert_eq!(words, ["a", "driver's", "_", "e.g", "its"]);
    }
}
