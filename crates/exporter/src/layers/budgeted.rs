//! The memory of unread messages.

use http::HeaderMap;
use jumpstarter_driver_core::Result;
use jumpstarter_protocol::http2::Body;
use jumpstarter_protocol::{Incoming, MessageEncoding};
use prost::Message;

use crate::peer::Peer;

/// The messages of a request, within their connection's memory, each with a limited length.
///
/// # Errors
/// `Unimplemented` for messages with an unknown compression.
pub(crate) fn incoming<T: Message + Default>(
    headers: &HeaderMap,
    body: Body,
    peer: &Peer,
    max_message_bytes: usize,
) -> Result<Incoming<T>> {
    let incoming = Incoming::new(body, MessageEncoding::of(headers)?, max_message_bytes);
    Ok(incoming.within(peer.standing.budget.clone()))
}
