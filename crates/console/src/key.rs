//! Keys by name, as what a terminal sends for them.

use jumpstarter_driver_core::{Error, Result, suggest};

/// Keys that are no letters.
const NAMED: [(&str, &str); 12] = [
    ("enter", "\r"),
    ("escape", "\x1b"),
    ("tab", "\t"),
    ("space", " "),
    ("backspace", "\x7f"),
    ("delete", "\x1b[3~"),
    ("up", "\x1b[A"),
    ("down", "\x1b[B"),
    ("right", "\x1b[C"),
    ("left", "\x1b[D"),
    ("home", "\x1b[H"),
    ("end", "\x1b[F"),
];

/// What the key `name` sends.
pub(crate) fn bytes_of(name: &str) -> Result<Vec<u8>> {
    let lower = name.to_ascii_lowercase();
    if let Some((_, text)) = NAMED.iter().find(|(known, _)| *known == lower) {
        return Ok(text.as_bytes().to_vec());
    }
    match lower.strip_prefix("ctrl-").map(str::as_bytes) {
        // `ctrl-@` to `ctrl-_`.
        Some([key]) if (0x40..0x60).contains(&key.to_ascii_uppercase()) => {
            Ok(vec![key.to_ascii_uppercase() & 0x1f])
        }
        _ => {
            let known = suggest::list(NAMED.iter().map(|(name, _)| *name));
            Err(Error::invalid_argument(format!("`{name}` is no key"))
                .with_hint(format!("keys are ctrl-a to ctrl-z and {known}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::bytes_of;

    #[test]
    fn keys_are_those_of_a_terminal() {
        for (name, bytes) in [
            ("ctrl-c", &b"\x03"[..]),
            ("Ctrl-A", b"\x01"),
            ("ctrl-]", b"\x1d"),
            ("enter", b"\r"),
            ("up", b"\x1b[A"),
        ] {
            assert_eq!(bytes_of(name).unwrap(), bytes, "{name}");
        }
        for wrong in ["ctrl-", "ctrl-cc", "ctrl-ü", "return", ""] {
            assert!(bytes_of(wrong).is_err(), "{wrong}");
        }
    }
}
