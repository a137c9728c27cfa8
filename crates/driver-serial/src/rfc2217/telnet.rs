//! Telnet as RFC 2217 uses it: bytes, options and commands in one stream.

pub(crate) const IAC: u8 = 255;
pub(crate) const DONT: u8 = 254;
pub(crate) const DO: u8 = 253;
pub(crate) const WONT: u8 = 252;
pub(crate) const WILL: u8 = 251;
const SB: u8 = 250;
const SE: u8 = 240;

/// The option `BINARY`: no byte is changed.
pub(crate) const BINARY: u8 = 0;
/// The option `SUPPRESS-GO-AHEAD`.
pub(crate) const SUPPRESS_GO_AHEAD: u8 = 3;
/// The option `COM-PORT-OPTION` of RFC 2217.
pub(crate) const COM_PORT: u8 = 44;

/// The longest command that is kept; the rest of a longer one is dropped.
const LONGEST_COMMAND: usize = 256;

/// What a stream holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Bytes of the port.
    Data(Vec<u8>),
    /// `WILL`, `WONT`, `DO` or `DONT`, and an option.
    Option(u8, u8),
    /// A command of RFC 2217: its code and value.
    Command(u8, Vec<u8>),
}

/// Takes a stream apart, however it is cut into pieces.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    state: State,
    command: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum State {
    #[default]
    Data,
    /// After IAC.
    Escape,
    /// After IAC and a verb.
    Option(u8),
    /// In a subnegotiation.
    Command,
    /// After IAC in a subnegotiation.
    CommandEscape,
}

impl Decoder {
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> Vec<Event> {
        let (mut events, mut data) = (Vec::new(), Vec::new());
        for &byte in bytes {
            let event = self.step(byte, &mut data);
            if let Some(event) = event {
                if !data.is_empty() {
                    events.push(Event::Data(std::mem::take(&mut data)));
                }
                events.push(event);
            }
        }
        if !data.is_empty() {
            events.push(Event::Data(data));
        }
        events
    }

    fn step(&mut self, byte: u8, data: &mut Vec<u8>) -> Option<Event> {
        let (next, event) = match (self.state, byte) {
            (State::Data, IAC) => (State::Escape, None),
            (State::Data, _) | (State::Escape, IAC) => {
                data.push(byte);
                (State::Data, None)
            }
            (State::Escape, WILL | WONT | DO | DONT) => (State::Option(byte), None),
            (State::Escape, SB) => {
                self.command.clear();
                (State::Command, None)
            }
            // Other commands of telnet mean nothing to a serial port.
            (State::Escape, _) => (State::Data, None),
            (State::Option(verb), _) => (State::Data, Some(Event::Option(verb, byte))),
            (State::Command, IAC) => (State::CommandEscape, None),
            (State::CommandEscape, SE) => (State::Data, self.take_command()),
            (State::Command, _) | (State::CommandEscape, _) => {
                if self.command.len() < LONGEST_COMMAND {
                    self.command.push(byte);
                }
                (State::Command, None)
            }
        };
        self.state = next;
        event
    }

    fn take_command(&mut self) -> Option<Event> {
        match std::mem::take(&mut self.command)[..] {
            [COM_PORT, code, ref value @ ..] => Some(Event::Command(code, value.to_vec())),
            _ => None,
        }
    }
}

/// Bytes of the port as they stand in the stream: IAC is doubled.
pub(crate) fn escape(bytes: &[u8], to: &mut Vec<u8>) {
    for &byte in bytes {
        to.push(byte);
        if byte == IAC {
            to.push(IAC);
        }
    }
}

/// A command of RFC 2217 as it stands in the stream.
pub(crate) fn command(code: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![IAC, SB, COM_PORT, code];
    escape(value, &mut bytes);
    bytes.extend([IAC, SE]);
    bytes
}

/// Which options are on, so that an answer is sent only to a change: two ends that answer answers
/// would never stop.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Those of this end.
    ours: Vec<u8>,
    /// Those of the other end.
    theirs: Vec<u8>,
}

impl Options {
    /// What begins a connection: both ends binary and without go-ahead, and `com_port`, which is
    /// `WILL` for a client and `DO` for a server.
    pub(crate) fn begin(&mut self, com_port: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut ask = |verb: u8, option: u8| bytes.extend([IAC, verb, option]);
        for option in [BINARY, SUPPRESS_GO_AHEAD] {
            ask(WILL, option);
            ask(DO, option);
            self.ours.push(option);
            self.theirs.push(option);
        }
        ask(com_port, COM_PORT);
        match com_port {
            WILL => self.ours.push(COM_PORT),
            _ => self.theirs.push(COM_PORT),
        }
        bytes
    }

    /// The answer to the other end, if it needs one.
    pub(crate) fn answer(&mut self, verb: u8, option: u8) -> Option<Vec<u8>> {
        let (list, yes, no) = match verb {
            DO | DONT => (&mut self.ours, WILL, WONT),
            _ => (&mut self.theirs, DO, DONT),
        };
        let on = list.contains(&option);
        let wanted = matches!(verb, DO | WILL);
        if wanted == on {
            return None;
        }
        list.retain(|other| *other != option);
        let known = matches!(option, BINARY | SUPPRESS_GO_AHEAD | COM_PORT);
        let answer = if wanted && known {
            list.push(option);
            yes
        } else {
            no
        };
        Some(vec![IAC, answer, option])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_cut_gives_the_same_events() {
        let mut stream = Vec::new();
        escape(b"a\xffb", &mut stream);
        stream.extend([IAC, WILL, COM_PORT, IAC, 241]);
        stream.extend(command(1, &[0, 255, 240, 7]));
        stream.extend(b"c");
        let whole = Decoder::default().decode(&stream);
        assert_eq!(
            whole,
            [
                Event::Data(b"a\xffb".to_vec()),
                Event::Option(WILL, COM_PORT),
                Event::Command(1, vec![0, 255, 240, 7]),
                Event::Data(b"c".to_vec()),
            ]
        );
        for cut in 0..stream.len() {
            let mut decoder = Decoder::default();
            let mut events = decoder.decode(&stream[..cut]);
            events.extend(decoder.decode(&stream[cut..]));
            let mut merged: Vec<Event> = Vec::new();
            for event in events {
                match (merged.last_mut(), event) {
                    (Some(Event::Data(before)), Event::Data(more)) => before.extend(more),
                    (_, event) => merged.push(event),
                }
            }
            assert_eq!(merged, whole, "cut at {cut}");
        }
    }

    #[test]
    fn an_endless_command_is_bounded() {
        let mut decoder = Decoder::default();
        decoder.decode(&[IAC, SB, COM_PORT]);
        decoder.decode(&[1; 100_000]);
        assert_eq!(decoder.command.len(), LONGEST_COMMAND);
    }

    #[test]
    fn only_changes_are_answered() {
        let mut options = Options::default();
        options.begin(WILL);
        assert_eq!(options.answer(DO, COM_PORT), None);
        assert_eq!(options.answer(WILL, COM_PORT), Some(vec![IAC, DO, COM_PORT]));
        assert_eq!(options.answer(WILL, COM_PORT), None);
        assert_eq!(options.answer(DO, 1), Some(vec![IAC, WONT, 1]));
        assert_eq!(options.answer(DONT, BINARY), Some(vec![IAC, WONT, BINARY]));
        assert_eq!(options.answer(DONT, BINARY), None);
    }
}
