//! The digest thread: SHA-256 of what the source delivers, beside the other stages.

use crate::item::{Item, ZEROS};
use ring::digest::{Context, SHA256};
use std::fmt::Write;
use tokio::sync::mpsc;

/// The SHA-256 of all items in lower-case hexadecimal; `None` if the source did not come to its
/// end.
///
/// `ring`'s is hand-written assembly for processors with and without SHA instructions.
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
    // Four lines; a library of hexadecimal digits is not linked here.
    let mut hex = String::with_capacity(64);
    for byte in context.finish().as_ref() {
        // Writing to a string cannot fail.
        write!(hex, "{byte:02x}").ok()?;
    }
    Some(hex)
}
