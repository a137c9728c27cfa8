//! The options of a transfer (RFC 2347, 2348, 2349, 7440).

use std::time::Duration;

use crate::packet::Request;

/// A block without the option.
const DEFAULT_BLOCK: usize = 512;
/// The largest window, in blocks: what is sent before an acknowledgement.
const MAX_WINDOW: u64 = 64;
/// The largest window, in bytes: it is kept in memory.
const MAX_WINDOW_BYTES: u64 = 1 << 20;

/// What the two sides agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// The size of a block in bytes.
    pub(crate) block: usize,
    /// How many blocks are sent before an acknowledgement.
    pub(crate) window: usize,
    /// How long to wait for an acknowledgement, if the client says so.
    pub(crate) timeout: Option<Duration>,
    /// The options that are accepted, as they are answered.
    pub(crate) accepted: Vec<(&'static str, u64)>,
}

impl Options {
    /// Accepts the options of a request for a file of `size` bytes. Unknown ones, and values that
    /// the standards do not allow, are left out of the answer, which refuses them.
    pub(crate) fn new(request: &Request, size: u64) -> Self {
        let mut options =
            Self { block: DEFAULT_BLOCK, window: 1, timeout: None, accepted: Vec::new() };
        let mut window = 1;
        for (name, value) in &request.options {
            let Ok(value) = value.trim().parse::<u64>() else { continue };
            let accepted = match (name.as_str(), value) {
                ("blksize", 8..) => {
                    let block = value.min(65464);
                    options.block = block as usize;
                    ("blksize", block)
                }
                ("timeout", 1..=255) => {
                    options.timeout = Some(Duration::from_secs(value));
                    ("timeout", value)
                }
                // The size of a text on the wire is not known before it is read.
                ("tsize", _) if !request.is_text => ("tsize", size),
                ("windowsize", 1..=65535) => {
                    window = value;
                    ("windowsize", value)
                }
                _ => continue,
            };
            if options.accepted.iter().all(|(name, _)| *name != accepted.0) {
                options.accepted.push(accepted);
            }
        }
        let most = (MAX_WINDOW_BYTES / options.block as u64).clamp(1, MAX_WINDOW);
        options.window = window.min(most) as usize;
        for (name, value) in &mut options.accepted {
            if *name == "windowsize" {
                *value = options.window as u64;
            }
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(asked: &str, expected: &[(&'static str, u64)], block: usize, window: usize) {
        let options = asked.split_whitespace().filter_map(|one| one.split_once('='));
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let request = Request { name: "a".to_owned(), is_text: false, options };
        let found = Options::new(&request, 7);
        let found = (&found.accepted[..], found.block, found.window);
        assert_eq!(found, (expected, block, window), "{asked}");
    }

    #[test]
    fn options_are_accepted_within_the_standards() {
        check("", &[], 512, 1);
        check("tsize=0", &[("tsize", 7)], 512, 1);
        check("blksize=1468 timeout=3", &[("blksize", 1468), ("timeout", 3)], 1468, 1);
        check("blksize=8", &[("blksize", 8)], 8, 1);
        check("blksize=7 timeout=0 timeout=256 windowsize=0", &[], 512, 1);
        check("blksize=99999999", &[("blksize", 65464)], 65464, 1);
        check("blksize=99999999999999999999 blksize=-1 blksize=x utimeout=1", &[], 512, 1);
        check("windowsize=65535", &[("windowsize", 64)], 512, 64);
        check("windowsize=64 blksize=65464", &[("windowsize", 16), ("blksize", 65464)], 65464, 16);
    }
}
