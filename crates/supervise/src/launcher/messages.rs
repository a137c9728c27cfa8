//! The protocol of `jumpstarter-exec`: one JSON object a line, its kind in the key `type`.
//!
//! A client sends [`Exec`](ClientMessage::Exec) or [`Shutdown`](ClientMessage::Shutdown) first. An
//! `Exec` is answered by [`Started`](ServerMessage::Started) and, at the program's end, by
//! [`Exit`](ServerMessage::Exit); or by [`Error`](ServerMessage::Error) alone.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest line that either end accepts, in bytes: a command line fills two MiB at most.
pub const LONGEST_MESSAGE: usize = 4 << 20;

/// A message to a launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum ClientMessage {
    /// Starts a program.
    Exec {
        /// The program and its arguments.
        argv: Vec<String>,
        /// Variables, beside those of the launcher.
        #[serde(default)]
        env: Vec<(String, String)>,
        /// The folder to run in.
        #[serde(default)]
        cwd: Option<String>,
    },
    /// Ends the launcher.
    Shutdown,
    /// Bytes for the program's stdin.
    Stdin {
        /// The bytes.
        data: Data,
    },
    /// The end of the program's stdin.
    StdinClose,
    /// Sends the program a signal.
    Signal {
        /// The signal's number.
        signal: i32,
    },
}

/// A message from a launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum ServerMessage {
    /// The program runs.
    Started {
        /// Its process id, in the launcher's container.
        pid: u32,
    },
    /// Bytes of the program's stdout.
    Stdout {
        /// The bytes.
        data: Data,
    },
    /// Bytes of the program's stderr.
    Stderr {
        /// The bytes.
        data: Data,
    },
    /// The program has ended.
    Exit {
        /// Its exit code; `None` if a signal killed it.
        code: Option<i32>,
    },
    /// The request failed.
    Error {
        /// The reason, for people.
        message: String,
    },
}

/// Bytes, in base64 on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data(pub Vec<u8>);

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

macro_rules! lines {
    ($message:ty) => {
        impl $message {
            /// The message as a line, with its line feed.
            #[must_use]
            pub fn to_line(&self) -> Vec<u8> {
                // Strings and numbers always serialise.
                let mut line = serde_json::to_vec(self).unwrap_or_default();
                line.push(b'\n');
                line
            }

            /// Parses a line, with or without its line feed.
            ///
            /// # Errors
            ///
            /// `InvalidData` for what is no such message.
            pub fn from_line(line: &[u8]) -> io::Result<Self> {
                serde_json::from_slice(line).map_err(|error| {
                    io::Error::new(io::ErrorKind::InvalidData, format!("invalid message: {error}"))
                })
            }
        }
    };
}

lines!(ClientMessage);
lines!(ServerMessage);

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as upstream's `jumpstarter-exec` and its clients write them.
    #[test]
    fn lines_are_those_of_upstream() {
        let data = || Data(b"hi\n\0\xff".to_vec());
        let argv = || vec!["echo".to_owned(), "ä\"\n".to_owned()];
        let env = vec![("K".to_owned(), "v".to_owned())];
        let client = [
            (
                r#"{"type":"Exec","argv":["echo","ä\"\n"],"env":[["K","v"]],"cwd":"/tmp"}"#,
                ClientMessage::Exec { argv: argv(), env, cwd: Some("/tmp".to_owned()) },
            ),
            (
                r#"{"type":"Exec","argv":["echo","ä\"\n"],"env":[],"cwd":null}"#,
                ClientMessage::Exec { argv: argv(), env: Vec::new(), cwd: None },
            ),
            (r#"{"type":"Shutdown"}"#, ClientMessage::Shutdown),
            (r#"{"type":"Stdin","data":"aGkKAP8="}"#, ClientMessage::Stdin { data: data() }),
            (r#"{"type":"StdinClose"}"#, ClientMessage::StdinClose),
            (r#"{"type":"Signal","signal":15}"#, ClientMessage::Signal { signal: 15 }),
        ];
        for (line, message) in client {
            assert_eq!(String::from_utf8(message.to_line()).unwrap(), format!("{line}\n"));
            assert_eq!(ClientMessage::from_line(line.as_bytes()).unwrap(), message);
        }
        let server = [
            (r#"{"type":"Started","pid":42}"#, ServerMessage::Started { pid: 42 }),
            (r#"{"type":"Stdout","data":"aGkKAP8="}"#, ServerMessage::Stdout { data: data() }),
            (r#"{"type":"Stderr","data":"aGkKAP8="}"#, ServerMessage::Stderr { data: data() }),
            (r#"{"type":"Exit","code":7}"#, ServerMessage::Exit { code: Some(7) }),
            (r#"{"type":"Exit","code":null}"#, ServerMessage::Exit { code: None }),
            (
                r#"{"type":"Error","message":"empty argv"}"#,
                ServerMessage::Error { message: "empty argv".to_owned() },
            ),
        ];
        for (line, message) in server {
            assert_eq!(String::from_utf8(message.to_line()).unwrap(), format!("{line}\n"));
            assert_eq!(ServerMessage::from_line(line.as_bytes()).unwrap(), message);
        }
    }

    #[test]
    fn env_and_folder_may_be_missing_and_more_keys_are_accepted() {
        let bare = ClientMessage::Exec { argv: vec!["a".to_owned()], env: Vec::new(), cwd: None };
        for line in
            [r#"{"argv":["a"],"type":"Exec"}"#, r#"{"type":"Exec","argv":["a"],"tty":true}"#]
        {
            assert_eq!(ClientMessage::from_line(line.as_bytes()).unwrap(), bare);
        }
        let broken = [
            "",
            "{}",
            "[]",
            r#"{"type":"Exec"}"#,
            r#"{"type":"Stdin","data":"%"}"#,
            r#"{"type":"X"}"#,
        ];
        for line in broken {
            assert!(ClientMessage::from_line(line.as_bytes()).is_err(), "{line}");
        }
    }
}
