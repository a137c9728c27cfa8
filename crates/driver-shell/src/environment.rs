//! The variables that a caller may set for a script.

use std::collections::BTreeMap;

use jumpstarter_driver_core::{Error, Result};

/// Variables that choose the programs and libraries that run, or where they are configured.
const BLOCKED: &[&str] = &["PATH", "PYTHONPATH", "BASH_ENV", "KUBECONFIG", "HOME"];
/// Beginnings of the names of such variables.
const BLOCKED_PREFIXES: &[&str] = &["LD_", "BASH_FUNC_"];

/// Refuses variables with which a caller could run another program than the script.
pub(crate) fn check(variables: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in variables {
        if BLOCKED.contains(&name.as_str())
            || BLOCKED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        {
            let message = format!("environment variable `{name}` is blocked for security reasons");
            return Err(Error::invalid_argument(message).with_hint(
                "the exporter's own value is used; pass what the script needs as an argument",
            ));
        }
        let mut letters = name.chars();
        let is_first = |letter: char| letter.is_alphabetic() || letter == '_';
        if !letters.next().is_some_and(is_first)
            || !letters.all(|letter| letter.is_alphanumeric() || letter == '_')
        {
            let message = format!("`{}` is no name of a variable", name.escape_debug());
            return Err(Error::invalid_argument(message)
                .with_hint("a name has letters, digits and _, and does not begin with a digit"));
        }
        without_zero(value, || format!("the variable `{name}`"))?;
    }
    Ok(())
}

/// Refuses text that cannot be passed to a program.
pub(crate) fn without_zero(text: &str, what: impl Fn() -> String) -> Result<()> {
    match text.contains('\0') {
        true => Err(Error::invalid_argument(format!("{} holds a zero byte", what()))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_name(name: &str, expected: &str) {
        let refused = check(&BTreeMap::from([(name.to_owned(), "x".to_owned())]));
        let message = refused.err().map_or_else(String::new, |error| error.to_string());
        assert_eq!(message, expected, "{name}");
    }

    #[test]
    fn what_chooses_programs_is_blocked() {
        for name in ["PATH", "HOME", "LD_PRELOAD", "LD_X", "BASH_ENV", "KUBECONFIG", "PYTHONPATH"] {
            let blocked = format!("environment variable `{name}` is blocked for security reasons");
            check_name(name, &blocked);
        }
        let function = "BASH_FUNC_ls%%";
        check_name(
            function,
            "environment variable `BASH_FUNC_ls%%` is blocked for security reasons",
        );
        for name in ["ENV1", "_x", "größe", "path", "MYPATH"] {
            check_name(name, "");
        }
        check_name("", "`` is no name of a variable");
        check_name("1A", "`1A` is no name of a variable");
        check_name("A=B\n", "`A=B\\n` is no name of a variable");
    }

    #[test]
    fn values_have_no_zero_byte() {
        let refused = check(&BTreeMap::from([("A".to_owned(), "x\0y".to_owned())]));
        assert_eq!(refused.unwrap_err().to_string(), "the variable `A` holds a zero byte");
    }
}
