//! The digest thread: SHA-256 of the source's bytes, parallel to the other stages.

use crate::item::{Item, ZEROS};
use jumpstarter_driver_core::image::hex;
use ring::digest::{Context, SHA256};
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
    Some(hex(context.finish().as_ref()))
}
