//! Removes queries that a terminal would answer from a console's past.
//!
//! A guest asks its terminal for the cursor's position, the terminal's kind or its colours. If such
//! a query is shown again later, it is answered again, and the answer is typed into the guest. So
//! only control sequences that are known to have no answer pass; so do text, colours, cursor moves
//! and titles.

use bytes::Bytes;

/// The longest sequence that passes.
const LONGEST: usize = 4 * 1024;
/// Operating system commands that pass: titles, the working folder, links, marks of shells and of
/// systemd.
const COMMANDS: [&str; 7] = ["0", "1", "2", "7", "8", "133", "3008"];
/// Private modes that pass. Others make some terminals report at once, such as that of focus.
const MODES: [&str; 23] = [
    "1", "3", "5", "6", "7", "12", "25", "45", "47", "66", "69", "1000", "1002", "1003", "1005",
    "1006", "1015", "1047", "1048", "1049", "2004", "9", "1007",
];

/// Remembers where in a sequence the last piece ended.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    /// The offset at which the present begins.
    present: u64,
    state: State,
    /// The sequence so far, which passes or goes whole.
    held: Vec<u8>,
    /// How many bytes of a character are still to come.
    rest_of_character: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum State {
    #[default]
    Text,
    /// After 0xc2, which begins the control characters beyond ASCII.
    Beyond,
    /// After ESC, and bytes between it and its last.
    Escape,
    /// In `ESC [ … final`.
    Control,
    /// In `ESC ] … BEL`, `ESC P … ESC \` and the like.
    DeviceString,
    /// After ESC in it.
    StringEnd,
}

impl Replay {
    /// For a console whose next byte has the offset `present`.
    pub(crate) fn before(present: u64) -> Self {
        Self { present, ..Self::default() }
    }

    /// Returns the bytes of `piece`, whose first byte has this offset: the past without queries,
    /// the present unchanged.
    pub(crate) fn pass(&mut self, offset: u64, piece: &Bytes) -> Bytes {
        let past = self.present.saturating_sub(offset).min(piece.len() as u64) as usize;
        if past == 0 && self.held.is_empty() {
            return piece.clone();
        }
        let (past, now) = piece.split_at(past);
        let mut bytes = Vec::with_capacity(piece.len());
        self.filter(past, &mut bytes);
        if offset + past.len() as u64 >= self.present {
            self.finish(&mut bytes);
        }
        bytes.extend_from_slice(now);
        bytes.into()
    }

    /// Appends `bytes` without queries to `into`. An unfinished sequence is held.
    pub(crate) fn filter(&mut self, bytes: &[u8], into: &mut Vec<u8>) {
        for &byte in bytes {
            self.take(byte, into);
        }
    }

    /// The past ends here: a held sequence continues in the present, except strings, which would
    /// hide that.
    pub(crate) fn finish(&mut self, into: &mut Vec<u8>) {
        if !matches!(self.state, State::DeviceString | State::StringEnd) {
            into.append(&mut self.held);
        }
        *self = Self::before(self.present);
    }

    fn take(&mut self, byte: u8, into: &mut Vec<u8>) {
        match (self.state, byte) {
            (State::DeviceString, 0x1b) => self.state = State::StringEnd,
            (State::StringEnd, b'\\') => self.end_of_string(into, b"\x1b\\"),
            // It breaks off what was before it.
            (State::StringEnd, _) => {
                self.begin(State::Escape, 0x1b);
                self.take(byte, into);
            }
            (_, 0x1b) => self.begin(State::Escape, byte),
            (State::Text, _) => self.text(byte, into),
            (State::Beyond, 0x80..=0x9f) => self.drop_held(),
            (State::Beyond, _) => {
                self.drop_held();
                if matches!(byte, 0xa0..=0xbf) {
                    into.push(0xc2);
                    self.rest_of_character = 1;
                }
                self.text(byte, into);
            }
            // CAN and SUB break a sequence off.
            (_, 0x18 | 0x1a) => self.drop_held(),
            (State::DeviceString, 0x07) => self.end_of_string(into, b"\x07"),
            // A title that never ends must not swallow the rest of the console.
            (State::DeviceString, b'\n') => {
                self.drop_held();
                into.push(byte);
            }
            (State::DeviceString, _) => self.hold(byte),
            // Other control characters act as if they came before the sequence.
            (_, 0x00..=0x1f) => self.text_within(byte, into),
            (_, 0x80..) => {
                self.drop_held();
                self.text(byte, into);
            }
            (State::Escape, b'[') if self.held.len() == 1 => self.go_on(State::Control, byte),
            (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') if self.held.len() == 1 => {
                self.go_on(State::DeviceString, byte);
            }
            (State::Escape | State::Control, 0x20..=0x2f) | (State::Control, 0x30..=0x3f) => {
                self.hold(byte)
            }
            (State::Escape, 0x30..=0x7e) => {
                self.hold(byte);
                // DECID asks what the terminal is.
                self.end(into, |sequence| sequence != b"\x1bZ");
            }
            (State::Control, 0x40..=0x7e) => {
                self.hold(byte);
                self.end(into, is_silent);
            }
            // DEL, which terminals ignore there.
            (_, _) => {}
        }
    }

    fn text(&mut self, byte: u8, into: &mut Vec<u8>) {
        match byte {
            0x80..=0xbf if self.rest_of_character > 0 => self.rest_of_character -= 1,
            // ENQ, which terminals answer; control characters in eight bits, which some take for
            // ESC and a letter.
            0x05 | 0x80..=0x9f => return,
            0xc2 => return self.begin(State::Beyond, byte),
            0xc3..=0xdf => self.rest_of_character = 1,
            0xe0..=0xef => self.rest_of_character = 2,
            0xf0..=0xf4 => self.rest_of_character = 3,
            _ => self.rest_of_character = 0,
        }
        into.push(byte);
    }

    fn text_within(&mut self, byte: u8, into: &mut Vec<u8>) {
        if byte != 0x05 {
            into.push(byte);
        }
    }

    fn begin(&mut self, state: State, byte: u8) {
        self.held.clear();
        self.rest_of_character = 0;
        self.go_on(state, byte);
    }

    fn go_on(&mut self, state: State, byte: u8) {
        self.state = state;
        self.hold(byte);
    }

    fn hold(&mut self, byte: u8) {
        // One byte more shows that it is too long.
        if self.held.len() <= LONGEST {
            self.held.push(byte);
        }
    }

    fn drop_held(&mut self) {
        self.held.clear();
        self.state = State::Text;
    }

    fn end(&mut self, into: &mut Vec<u8>, passes: impl Fn(&[u8]) -> bool) {
        if self.held.len() <= LONGEST && passes(&self.held) {
            into.extend_from_slice(&self.held);
        }
        self.drop_held();
    }

    fn end_of_string(&mut self, into: &mut Vec<u8>, ending: &[u8]) {
        self.held.extend_from_slice(ending);
        self.end(into, |sequence| is_silent_command(&sequence[..sequence.len() - ending.len()]));
    }
}

/// Whether a sequence `ESC [ … final` has no answer, whatever the terminal.
fn is_silent(sequence: &[u8]) -> bool {
    let Some((last, between)) = sequence.get(2..).and_then(<[u8]>::split_last) else {
        return false;
    };
    match (between, last) {
        (_, b'A'..=b'M' | b'P' | b'S' | b'T' | b'X' | b'Z' | b'@' | b'`') => plain(between),
        (_, b'a' | b'b' | b'd' | b'e' | b'f' | b'g' | b'm' | b'r' | b's' | b'u') => plain(between),
        ([b'?', modes @ ..], b'h' | b'l') => modes
            .split(|byte| *byte == b';')
            .all(|mode| MODES.iter().any(|known| known.as_bytes() == mode)),
        (_, b'h' | b'l') => plain(between),
        // The cursor's form; a soft reset.
        ([.., b' '], b'q') | (b"!", b'p') => true,
        _ => false,
    }
}

/// Numbers alone.
fn plain(between: &[u8]) -> bool {
    between.iter().all(|byte| matches!(byte, b'0'..=b';'))
}

/// Whether a string, without its end, is a command that has no answer.
fn is_silent_command(sequence: &[u8]) -> bool {
    let Some(command) = sequence.strip_prefix(b"\x1b]") else { return false };
    let Ok(command) = std::str::from_utf8(command) else { return false };
    let number = command.split(';').next().unwrap_or_default();
    COMMANDS.contains(&number) && !command.chars().any(char::is_control)
}

#[cfg(test)]
mod tests;
