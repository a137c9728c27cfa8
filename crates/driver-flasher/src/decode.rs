//! The decoding thread: compressed items in, plain ones out.

use crate::item::{Item, ItemReader};
use jumpstarter_codec::{Compression, decompress};
use tokio::sync::mpsc;

/// Decompresses until the end, a failure, or until the receiver is dropped.
pub(crate) fn decode(mut input: ItemReader, compression: Compression, output: &mpsc::Sender<Item>) {
    let give = |piece| output.blocking_send(Item::Data(piece)).is_ok();
    let hint = "compare the file's size and digest with its publisher's and transfer it again";
    let last = match decompress(compression, hint, || input.bytes(), give) {
        Ok(()) => Item::End,
        Err(error) => Item::Failed(error),
    };
    // An error here means that the receiver was dropped, and knows the reason.
    drop(output.blocking_send(last));
}
