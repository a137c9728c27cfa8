//! The packets of TFTP (RFC 1350 and 2347).

use std::fmt;

/// More options than any client sends.
const MAX_OPTIONS: usize = 16;

/// A packet that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    /// A request to read a file.
    Read(Request),
    /// A request to write a file.
    Write,
    /// Data, or an acknowledgement of options: a server gets none.
    Misplaced,
    /// A block was received.
    Ack(u16),
    /// The other side gave up.
    Error { code: u16, message: String },
}

/// A request to read a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) name: String,
    /// Whether lines end as on a teletype, `netascii`.
    pub(crate) is_text: bool,
    /// Names in lower case, with their values, in order.
    pub(crate) options: Vec<(String, String)>,
}

/// Why a transfer is refused or ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Code {
    Other = 0,
    NotFound = 1,
    Access = 2,
    Illegal = 4,
    UnknownTransfer = 5,
    Options = 8,
}

/// An error to send, or to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) Code, pub(crate) String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.1)
    }
}

pub(crate) fn refuse(code: Code, message: impl Into<String>) -> Refusal {
    Refusal(code, message.into())
}

impl Packet {
    /// Reads a packet.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        let short = || refuse(Code::Illegal, "the packet is too short");
        let (opcode, rest) = bytes.split_first_chunk().ok_or_else(short)?;
        let number = || rest.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
        match u16::from_be_bytes(*opcode) {
            1 => Request::read(rest).map(Self::Read),
            2 => Ok(Self::Write),
            3 | 6 => Ok(Self::Misplaced),
            4 => number().map(Self::Ack).ok_or_else(short),
            5 => {
                let code = number().ok_or_else(short)?;
                let text = rest[2..].split(|byte| *byte == 0).next().unwrap_or_default();
                Ok(Self::Error { code, message: String::from_utf8_lossy(text).into_owned() })
            }
            other => Err(refuse(Code::Illegal, format!("there is no operation {other}"))),
        }
    }
}

impl Request {
    fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        let illegal = |why| refuse(Code::Illegal, why);
        // Each text ends with a zero byte, also the last one.
        let Some((0, texts)) = bytes.split_last().map(|(last, texts)| (*last, texts)) else {
            return Err(illegal("the request does not end with a zero byte"));
        };
        let mut texts = texts.split(|byte| *byte == 0).map(std::str::from_utf8);
        let mut next = || texts.next();
        let (Some(Ok(name)), Some(Ok(mode))) = (next(), next()) else {
            return Err(illegal("the request has no name or no mode"));
        };
        let is_text = match mode.to_ascii_lowercase().as_str() {
            "octet" => false,
            "netascii" => true,
            _ => return Err(illegal("the mode is neither octet nor netascii")),
        };
        let mut options: Vec<(String, String)> = Vec::new();
        while let Some(name) = next() {
            let (Ok(name), Some(Ok(value))) = (name, next()) else {
                return Err(refuse(Code::Options, "an option is no text or has no value"));
            };
            if options.len() >= MAX_OPTIONS {
                return Err(refuse(Code::Options, "the request has too many options"));
            }
            options.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        Ok(Self { name: name.to_owned(), is_text, options })
    }
}

/// The packet of a block.
pub(crate) fn data(block: u16, bytes: &[u8]) -> Vec<u8> {
    [&[0, 3], &block.to_be_bytes()[..], bytes].concat()
}

/// The packet that accepts options.
pub(crate) fn accept(options: &[(&'static str, u64)]) -> Vec<u8> {
    let mut packet = vec![0, 6];
    for (name, value) in options {
        packet.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
    }
    packet
}

/// The packet of an error.
pub(crate) fn error(Refusal(code, message): &Refusal) -> Vec<u8> {
    [&[0, 5], &(*code as u16).to_be_bytes()[..], message.as_bytes(), &[0]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Result<Packet, Refusal> {
        Packet::read(&[&[0, 1], text.as_bytes()].concat())
    }

    #[test]
    fn requests_are_read() {
        let expected = Request {
            name: "boot/zImage".to_owned(),
            is_text: false,
            options: vec![("blksize".to_owned(), "1468".to_owned())],
        };
        let read = request("boot/zImage\0OCTET\0BLKSIZE\x001468\0");
        assert_eq!(read, Ok(Packet::Read(expected)));
        for wrong in [
            "",
            "\0",
            "name",
            "name\0",
            "name\0octet",
            "name\0mail\0",
            "a\0octet\0blksize\0",
            "a\0octet\0blksize\x001468",
        ] {
            assert!(request(wrong).is_err(), "{wrong:?}");
        }
        let many = format!("a\0octet\0{}", "x\x001\0".repeat(17));
        assert_eq!(request(&many).unwrap_err().0, Code::Options);
    }

    #[test]
    fn short_packets_are_refused() {
        for bytes in [&[][..], &[0], &[0, 0], &[0, 4], &[0, 4, 1], &[0, 5], &[0, 5, 0], &[9, 9, 9]]
        {
            assert!(Packet::read(bytes).is_err(), "{bytes:?}");
        }
        assert_eq!(Packet::read(&[0, 4, 1, 2]), Ok(Packet::Ack(258)));
        let message = "full".to_owned();
        assert_eq!(Packet::read(b"\0\x05\0\x03full"), Ok(Packet::Error { code: 3, message }));
    }
}
