//! Questions on the terminal.

use std::io::{self, BufRead, Write};

use jumpstarter_driver_core::{Error, ErrorKind, Result, ResultExt};

use super::{Input, RawTerminal};
use crate::environment::Environment;
use crate::fault::Fault;

/// Whether an answer is shown while it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    Shown,
    Hidden,
}

/// Asks for one line on the terminal, which is returned without blanks around it.
///
/// # Errors
/// `Cancelled` for Ctrl-C at a hidden answer and for the end of input.
pub(crate) fn ask(question: &str, echo: Echo, err: &mut dyn Write) -> Result<String> {
    write!(err, "{question}: ")?;
    let answer = match echo {
        Echo::Shown => {
            let mut line = String::new();
            let count = io::stdin().read_line(&mut line).context("reading the answer")?;
            if count > 0 { Some(line) } else { None }
        }
        Echo::Hidden => {
            // Raw, so that Ctrl-C does not leave a terminal without echo behind.
            let terminal = RawTerminal::enter()?;
            let answer = hidden_line(io::stdin().lock());
            drop(terminal);
            answer?
        }
    };
    if echo == Echo::Hidden || answer.is_none() {
        writeln!(err)?;
    }
    Ok(answer.ok_or_else(unanswered)?.trim().to_owned())
}

/// As [`ask`] with a shown answer, in async code: cancelling it ends the wait for the answer.
///
/// # Errors
/// `Cancelled` for the end of input.
pub(crate) async fn ask_beside(question: &str, environment: &Environment) -> Result<String> {
    environment.report_with_end(question, ": ");
    let answer = Input::of_stdin()?.next().await.context("reading the answer")?;
    let Some(answer) = answer else {
        environment.report("");
        return Err(unanswered());
    };
    Ok(text(answer.to_vec())?.trim().to_owned())
}

/// Asks whether to go on without a check of certificates. With `asks_nothing`, which an option
/// sets, there is a warning instead.
///
/// # Errors
/// `Cancelled` for any answer but yes; a wrong command line without a terminal.
pub(crate) fn confirm_insecure_tls(
    asks_nothing: bool,
    err: &mut dyn Write,
) -> crate::fault::Result<()> {
    if asks_nothing {
        writeln!(err, "warning: no certificate is checked: others can read what is sent")?;
        return Ok(());
    }
    if !super::is_interactive() {
        let message = "--insecure-tls asks whether to go on, and there is no terminal";
        return Err(Fault::usage(message, "add --nointeractive to go on without the question"));
    }
    let question = "Insecure TLS mode is enabled. Certificate verification will be disabled for HTTPS \
                    connections. Continue? [y/N]";
    loop {
        match ask(question, Echo::Shown, err)?.to_lowercase().as_str() {
            "y" | "yes" => return Ok(()),
            "" | "n" | "no" => {
                return Err(Error::new(ErrorKind::Cancelled, "nothing was changed").into());
            }
            _ => {}
        }
    }
}

fn unanswered() -> Error {
    Error::new(ErrorKind::Cancelled, "the question was not answered")
}

/// A line of keys as a raw terminal sends them; `None` for Ctrl-C, and for Ctrl-D or the end of
/// input before any key.
fn hidden_line(keys: impl BufRead) -> Result<Option<String>> {
    let mut line = Vec::new();
    for key in keys.bytes() {
        match key.context("reading the answer")? {
            b'\r' | b'\n' => return text(line).map(Some),
            0x03 => return Ok(None),
            0x04 if line.is_empty() => return Ok(None),
            // Backspace: a whole character.
            0x08 | 0x7f => while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            // Ctrl-U.
            0x15 => line.clear(),
            byte => line.push(byte),
        }
    }
    if line.is_empty() { Ok(None) } else { text(line).map(Some) }
}

fn text(line: Vec<u8>) -> Result<String> {
    // The error of the conversion would hold the text.
    String::from_utf8(line).map_err(|_| Error::invalid_argument("the answer is not text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_line_has_the_usual_keys() {
        for (keys, expected) in [
            ("t0ken\rnext", Some("t0ken")),
            ("wrong\u{15}ax\u{e9}\u{7f}\u{8}b\n", Some("ab")),
            ("abc\u{3}", None),
            ("\u{4}", None),
            ("", None),
            ("end", Some("end")),
        ] {
            assert_eq!(hidden_line(keys.as_bytes()).unwrap().as_deref(), expected, "{keys:?}");
        }
    }
}
