//! The messages of a call's answer, and the status after them.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use http::{HeaderMap, Response};
use jumpstarter_driver_core::Error;
use prost::Message;

use crate::http2::{Answer, Body};
use crate::{CallError, Incoming, MessageEncoding, grpc, read_status};

/// The messages of an answer: a stream that ends with the call. A failed call's status is its last
/// item. Dropping it before its end cancels the call.
#[derive(Debug)]
pub struct Messages<T> {
    stage: Stage<T>,
    headers: HeaderMap,
    max_message_bytes: usize,
}

#[derive(Debug)]
enum Stage<T> {
    /// The headers have not arrived.
    Headers(Answer),
    Body(Incoming<T>),
    /// The body has ended: its status follows.
    Trailers(Incoming<T>),
    Ended,
}

impl<T: Message + Default> Messages<T> {
    /// Reads the messages of an answer that has begun, each at most that long.
    ///
    /// # Errors
    /// The status of a call that failed at once; `Unimplemented` for an answer that is not gRPC.
    pub fn new(response: Response<Body>, max_message_bytes: usize) -> Result<Self, CallError> {
        let (headers, incoming) = begin(response, max_message_bytes)?;
        Ok(Self { stage: Stage::Body(incoming), headers, max_message_bytes })
    }

    /// Reads the messages of an answer that may begin later: some servers send the headers with the
    /// first message.
    pub fn awaiting(answer: Answer, max_message_bytes: usize) -> Self {
        Self { stage: Stage::Headers(answer), headers: HeaderMap::new(), max_message_bytes }
    }

    /// The headers of the answer; none before it has begun.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }
}

fn begin<T: Message + Default>(
    response: Response<Body>,
    max_message_bytes: usize,
) -> Result<(HeaderMap, Incoming<T>), CallError> {
    let (head, body) = response.into_parts();
    if let Some(Err(error)) = read_status(&head.headers) {
        return Err(CallError::Answer(error));
    }
    grpc::check_response(head.status, &head.headers).map_err(CallError::Answer)?;
    let encoding = MessageEncoding::of(&head.headers).map_err(CallError::Answer)?;
    Ok((head.headers, Incoming::new(body, encoding, max_message_bytes)))
}

impl<T: Message + Default> Stream for Messages<T> {
    type Item = Result<T, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            let failed = match &mut this.stage {
                Stage::Headers(answer) => {
                    let begun = ready!(Pin::new(answer).poll(cx));
                    match begun.and_then(|response| begin(response, this.max_message_bytes)) {
                        Ok((headers, incoming)) => {
                            this.headers = headers;
                            this.stage = Stage::Body(incoming);
                            continue;
                        }
                        Err(error) => Some(error),
                    }
                }
                Stage::Body(incoming) => match ready!(incoming.poll_message(cx)) {
                    Some(Ok(message)) => return Poll::Ready(Some(Ok(message))),
                    Some(Err(error)) => Some(error),
                    None => {
                        if let Stage::Body(incoming) =
                            std::mem::replace(&mut this.stage, Stage::Ended)
                        {
                            this.stage = Stage::Trailers(incoming);
                        }
                        continue;
                    }
                },
                Stage::Trailers(incoming) => match ready!(incoming.poll_trailers(cx)) {
                    Err(error) => Some(error),
                    Ok(trailers) => match read_status(trailers.as_ref().unwrap_or(&this.headers)) {
                        Some(Ok(())) => None,
                        Some(Err(error)) => Some(CallError::Answer(error)),
                        None => Some(CallError::Unreadable(Error::internal(
                            "it ended without a status",
                        ))),
                    },
                },
                Stage::Ended => None,
            };
            this.stage = Stage::Ended;
            return Poll::Ready(failed.map(Err));
        }
    }
}
