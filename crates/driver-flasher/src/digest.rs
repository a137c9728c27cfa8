//! The digest thread: SHA-256 of the source's bytes, parallel to the other stages.

use crate::item::{Item, ZEROS};
use ring::digest::{Context, SHA256};
use std::fmt::Write;
use tokio::sync::mpsc;

/// The SHA-256 of all items in lower-case hexadecimal; `None` if the source did not reach its end.
///
/// `ring` has assembly for processors with and without SHA instructions.
pub(crate) fn sha256(mut items: mpsc::Receiver<Item>) -> Option<String> {
    let mut context = Context::new(&SHA256);
    loop {
        match items.blocking_recv()? {
            Item::Data(bytes) => context.update(&bytes),
            Item::Zeros(mut count) => {
                while count > 0 {
                    let now = count.min(ZEROS.len() as u64);
                    context.update(&ZEROS[..now as usize]);
                    count -= now;
                }
            }
            Item::End => break,
            Item::Failed(_) => return None,
        }
    }
    // Four lines; no library for hexadecimal digits is linked here.
    let mut hex = String::with_capacity(64);
    for byte in context.finish().as_ref() {
        // Writing to a string cannot fail.
        write!(hex, "{byte:02x}").ok()?;
    }
    Some(hex)
}
