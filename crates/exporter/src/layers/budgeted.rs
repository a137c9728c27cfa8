//! What messages that nobody has read yet may take of the memory.

use h2::RecvStream;
use http::HeaderMap;
use jumpstarter_driver_core::Result;
use jumpstarter_protocol::{Incoming, MessageEncoding};
use prost::Message;

use crate::peer::Peer;

/// The messages of a request, in the memory that its connection has, none of them longer than that.
///
/// # Errors
/// `Unimplemented` for messages that are compressed in an unknown way.
pub(crate) fn incoming<T: Message + Default>(
    headers: &HeaderMap,
    body: RecvStream,
    peer: &Peer,
    max_message_bytes: usize,
) -> Result<Incoming<T>> {
    let incoming = Incoming::new(body, MessageEncoding::of(headers)?, max_message_bytes);
    Ok(incoming.within(peer.standing.budget.clone()))
}
