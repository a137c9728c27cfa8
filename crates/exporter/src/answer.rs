//! The requests and answers of methods.

use std::future::poll_fn;
use std::time::Duration;

use futures_util::stream::BoxStream;
use http::HeaderMap;
use http::request::Parts;
use jumpstarter_driver_core::{Error, Result};
use jumpstarter_protocol::Encoded;
use jumpstarter_protocol::http2::Body;
use prost::Message;

use crate::layers::budgeted::incoming;
use crate::peer::Peer;

/// How long the complete request of a call with one message may take to arrive.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// The longest message of a call: its arguments.
const MAX_REQUEST: usize = 4 << 20;

/// The answer of a method.
pub(crate) enum Answer {
    /// One message.
    One(Encoded),
    /// Initial metadata at once, and messages as they come.
    Many(HeaderMap, Messages),
    /// Messages that end at the exporter's shutdown by themselves, with the last of the log.
    ToTheLast(Messages),
}

/// The messages of an answer, until its end or its failure.
pub(crate) type Messages = BoxStream<'static, Result<Encoded>>;

impl Answer {
    pub(crate) fn one(message: &impl Message) -> Result<Self> {
        Encoded::message(message).map(Self::One)
    }
}

/// Reads the only message of a request, after the client has ended it: a stream that is answered
/// earlier is also reset, which some clients report as a failure.
pub(crate) async fn message<T: Message + Default>(
    head: &Parts,
    body: Body,
    peer: &Peer,
) -> Result<T> {
    let mut incoming = incoming(&head.headers, body, peer, MAX_REQUEST)?;
    let request = async {
        let message = poll_fn(|cx| incoming.poll_message(cx)).await;
        let message = message.ok_or_else(|| Error::internal("the request has no message"))??;
        match poll_fn(|cx| incoming.poll_message(cx)).await {
            None => Ok(message),
            Some(Ok(_)) => Err(Error::internal("the request has several messages")),
            Some(Err(error)) => Err(error.into()),
        }
    };
    tokio::time::timeout(REQUEST_LIMIT, request).await.unwrap_or_else(|_| {
        let message =
            format!("the request did not arrive whole within {} s", REQUEST_LIMIT.as_secs());
        Err(Error::deadline_exceeded(message))
    })
}
