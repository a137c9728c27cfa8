//! Console bytes as text for people: nothing in it can move a cursor.

/// `bytes` as text: lines stay lines, other control characters and bytes that are not UTF-8 become
/// `\x1b`, `\xff`.
pub(crate) fn visible(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let mut characters = chunk.valid().chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '\r' if characters.peek() == Some(&'\n') => {}
                '\n' => text.push('\n'),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                control if control.is_control() => {
                    text.push_str(&format!("\\x{:02x}", control as u32))
                }
                other => text.push(other),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn controls_and_bad_bytes_show() {
        assert_eq!(
            visible("Grüße\r\n\x1b[1mok\x07\u{9b}".as_bytes()),
            "Grüße\n\\x1b[1mok\\x07\\x9b"
        );
        assert_eq!(visible(b"a\xff\rb"), "a\\xff\\rb");
    }
}
