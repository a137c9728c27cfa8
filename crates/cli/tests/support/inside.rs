//! A command in this process, and what it prints.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use jumpstarter_cli::Environment;

/// What was written to a stream.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic").clone()).expect("text")
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs `jmp` or `j` with these words and these variables, and returns its exit code, standard
/// output and standard error.
pub fn run(program: &str, words: &[&str], variables: &[(&str, &str)]) -> (u8, String, String) {
    let (out, err) = (Written::default(), Written::default());
    let variables: Vec<(String, String)> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let variable = move |name: &str| {
        variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.into())
    };
    let environment = Environment::new(out.clone(), err.clone(), variable);
    let words = std::iter::once(program).chain(words.iter().copied());
    let code = jumpstarter_cli::run(words, &environment);
    (code, out.text(), err.text())
}

/// The same for `j`, in async code.
pub async fn j(words: &[&str], variables: &[(&str, &str)]) -> (u8, String, String) {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let variables: Vec<(String, String)> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let run = move || {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let variables: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        run("j", &words, &variables)
    };
    tokio::task::spawn_blocking(run).await.expect("no panic")
}

/// What a program printed, and how it ended.
pub fn transcript(code: u8, out: &str, err: &str) -> String {
    let err = match err {
        "" => String::new(),
        text => format!("--- stderr\n{text}"),
    };
    let code = match code {
        0 => String::new(),
        code => format!("--- exit code {code}\n"),
    };
    format!("{out}{err}{code}")
}
