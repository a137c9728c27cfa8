//! What may be said to U-Boot's shell, and how it is quoted.

use jumpstarter_driver_core::{Error, Result};

/// Refuses a command that the shell would not answer.
pub(crate) fn check_command(command: &str) -> Result<()> {
    let wrong = |why: &str| Err(Error::invalid_argument(format!("the command {why}")));
    if command.trim().is_empty() {
        return wrong("is empty");
    }
    if command.chars().any(|letter| letter.is_control() || !letter.is_ascii()) {
        return wrong("has characters that are not printable ASCII: give one line at a time");
    }
    let mut quote = None;
    let mut before = ' ';
    for letter in command.chars() {
        match quote {
            Some(open) if letter == open && before != '\\' => quote = None,
            Some(_) => {}
            None if matches!(letter, '"' | '\'') && before != '\\' => quote = Some(letter),
            None if letter == '#' && before.is_whitespace() => return wrong("has a comment"),
            None => {}
        }
        before = if before == '\\' && letter == '\\' { ' ' } else { letter };
    }
    match quote {
        Some(_) => wrong("has a quote that is not closed"),
        None if before == '\\' => wrong("ends with a backslash"),
        None => Ok(()),
    }
}

/// Refuses what cannot be the name of a variable.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:,/@%+~".contains(&byte);
    let is_option = name.starts_with('-');
    match !name.is_empty() && !is_option && name.bytes().all(is_fine) {
        true => Ok(()),
        false => Err(Error::invalid_argument(format!(
            "`{}` is no name of a variable",
            name.escape_debug()
        ))),
    }
}

/// A value as one word of the shell.
pub(crate) fn quote(value: &str) -> Result<String> {
    if value.chars().any(|letter| letter.is_control() || !letter.is_ascii()) {
        let message = "the value has characters that are not printable ASCII";
        return Err(Error::invalid_argument(message));
    }
    // Within single quotes only they are special, and backslashes, which U-Boot takes out.
    Ok(format!("'{}'", value.replace('\\', r"\\").replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_have_no_answer_are_refused() {
        for fine in ["version", "a; b || c", "echo '#' a#b", r#"echo "it's" \' \\"#] {
            assert!(check_command(fine).is_ok(), "{fine}");
        }
        for wrong in
            ["", " ", "a\nb", "a # b", "#", "echo 'a", "echo \"a", "echo \\", "echo ä", "\x1b"]
        {
            assert!(check_command(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_and_values() {
        assert!(check_name("eth1addr").is_ok() && check_name("boot.a_b-c").is_ok());
        for wrong in ["", "a b", "a=b", "a;b", "$a", "'a'", "-f"] {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
        assert_eq!(quote("it's $a; \"b\"").unwrap(), r#"'it'\''s $a; "b"'"#);
        assert_eq!(quote(r"a\").unwrap(), r"'a\\'");
        assert!(quote("a\nb").is_err());
    }
}
