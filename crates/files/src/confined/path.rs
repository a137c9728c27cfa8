//! Paths inside of a confined folder.

use std::fmt;
use std::io;

/// A path inside of a folder, which `..` never leaves.
///
/// It is made of text with `/` between names: leading, double and trailing slashes, and `.`, mean
/// nothing, and `..` takes back the name before it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InnerPath {
    path: String,
    is_folder: bool,
}

impl InnerPath {
    /// Reads a path.
    ///
    /// # Errors
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) for one that leads out of the folder,
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for one with a zero byte.
    pub fn new(text: &str) -> io::Result<Self> {
        if text.contains('\0') {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the path has a zero byte in it",
            ));
        }
        let mut names: Vec<&str> = Vec::new();
        for name in text.split('/') {
            match name {
                "" | "." => {}
                ".." => drop(names.pop().ok_or_else(|| leads_out(text))?),
                name => names.push(name),
            }
        }
        let is_folder =
            names.is_empty() || matches!(text.rsplit('/').next(), Some("" | "." | ".."));
        Ok(Self { path: names.join("/"), is_folder })
    }

    /// The path without slashes at its ends; empty for the folder itself.
    pub fn as_str(&self) -> &str {
        &self.path
    }

    /// Whether the text can only mean a folder: it ends with `/`.
    pub fn is_folder(&self) -> bool {
        self.is_folder
    }

    /// Whether it is the folder itself.
    pub fn is_root(&self) -> bool {
        self.path.is_empty()
    }

    /// The path of the folder that holds it, and its name; `None` for the folder itself.
    pub(super) fn split(&self) -> Option<(&str, &str)> {
        match self.path.rsplit_once('/') {
            Some(parts) => Some(parts),
            None => (!self.is_root()).then_some(("", &self.path)),
        }
    }
}

/// As listings have it: `a/b`, `a/b/` for a folder, `/` for the root.
impl fmt::Display for InnerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.is_folder { "/" } else { "" };
        write!(f, "{}{slash}", self.path)
    }
}

pub(super) fn leads_out(path: &str) -> io::Error {
    let message = format!("`{}` leads out of the folder", path.escape_debug());
    io::Error::new(io::ErrorKind::PermissionDenied, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        for (text, expected) in [
            ("", "/"),
            ("/", "/"),
            (".", "/"),
            ("a", "a"),
            ("/a", "a"),
            ("./a", "a"),
            ("a/", "a/"),
            ("//a///b/", "a/b/"),
            ("a/../b", "b"),
            ("a/..", "/"),
            ("a/b/.", "a/b/"),
            ("a..b/...", "a..b/..."),
        ] {
            assert_eq!(InnerPath::new(text).unwrap().to_string(), expected, "{text}");
        }
        for text in ["..", "../", "/..", "a/../..", "a/../../a", "./.."] {
            let error = InnerPath::new(text).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{text}");
        }
        assert_eq!(InnerPath::new("a\0b").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
