//! The output format of a command: for people or for programs.

use std::ffi::OsString;

use clap::ValueEnum;

/// The format of a command's output and errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

impl Format {
    /// The format that a command line asks for, even if the line is wrong otherwise.
    pub(crate) fn of_words(words: &[OsString]) -> Self {
        let options = ["--output", "-o"];
        let is_split = |pair: &[OsString]| {
            options.iter().any(|option| pair[0] == *option) && pair[1] == "json"
        };
        let is_joined = |word: &OsString| {
            ["--output=json", "-o=json", "-ojson"].iter().any(|joined| word == joined)
        };
        match words.windows(2).any(is_split) || words.iter().any(is_joined) {
            true => Self::Json,
            false => Self::Text,
        }
    }
}
