//! One call, from its headers to its status (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use std::future::{pending, poll_fn};
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use jumpstarter_protocol::wire::{Encoded, Incoming, MessageEncoding, Outgoing};
use prost::Message;
use tokio::time::Instant;
use tonic::Status;

use crate::Session;
use crate::connection::Peer;
use crate::passphrase::Passphrase;

/// The whole request of a call with one message may take so long to arrive.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// The longest message of a call: its arguments.
const MAX_REQUEST: usize = 4 << 20;
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// What a method answers.
pub(crate) enum Answer {
    /// One message.
    One(Encoded),
    /// Initial metadata at once, and messages as they come.
    Many(HeaderMap, Messages),
}

/// The messages of an answer, until its end or its failure.
pub(crate) type Messages = BoxStream<'static, Result<Encoded, Status>>;

impl Answer {
    pub(crate) fn one(message: &impl Message) -> Result<Self, Status> {
        Encoded::message(message).map(Self::One)
    }
}

/// Answers a call. It ends, and with it all that it opened, when it is answered, and when its
/// client gives it up or is gone.
pub(crate) async fn answer(
    session: Session,
    passphrase: Option<Passphrase>,
    peer: Peer,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (head, body) = request.into_parts();
    if !is_grpc(&head) {
        let response = Response::builder().status(StatusCode::UNSUPPORTED_MEDIA_TYPE).body(());
        // It fails only where nobody waits for it any more.
        drop(response.map(|response| respond.send_response(response, true)));
        return;
    }
    let deadline = limit_of(&head.headers).map(|limit| Instant::now() + limit);
    let called = async {
        if let Some(passphrase) = &passphrase {
            passphrase.admit(&head, &peer).await?;
        }
        peer.admit(&session);
        session.dispatch(&head, body, &peer).await
    };
    let answer = tokio::select! {
        answer = called => answer,
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return,
        status = late(deadline) => Err(status),
    };
    let sent = match answer {
        Err(status) => refuse(&mut respond, &status),
        Ok(Answer::One(message)) => send_one(respond, message).await,
        Ok(Answer::Many(metadata, messages)) => {
            send_many(respond, metadata, messages, late(deadline)).await
        }
    };
    if let Err(error) = sent {
        tracing::trace!(%error, "a client went away while it was answered");
    }
}

fn is_grpc(head: &Parts) -> bool {
    let kind = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    head.method == Method::POST && kind.is_some_and(|kind| kind.starts_with(GRPC.as_bytes()))
}

/// How long the client gives the call: at most eight digits and a unit.
fn limit_of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count =
        Some(digits).filter(|digits| (1..=8).contains(&digits.len()))?.parse::<u64>().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// Ends when the client's time is over.
async fn late(deadline: Option<Instant>) -> Status {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => pending().await,
    }
    Status::deadline_exceeded("the client's time for the call is over")
}

fn accepted() -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        // Its message cannot be sent: the code can.
        trailers =
            HeaderMap::from_iter([(Status::GRPC_STATUS, HeaderValue::from(status.code() as i32))]);
    }
    trailers
}

fn refuse(respond: &mut SendResponse<Bytes>, status: &Status) -> Result<(), h2::Error> {
    let mut response = accepted();
    response.headers_mut().extend(trailers(status));
    // For clients whose messages were compressed in another way.
    let accepted = HeaderValue::from_static(MessageEncoding::ACCEPTED);
    response.headers_mut().insert("grpc-accept-encoding", accepted);
    respond.send_response(response, true).map(drop)
}

async fn send_one(mut respond: SendResponse<Bytes>, message: Encoded) -> Result<(), h2::Error> {
    let mut outgoing = Outgoing::new(respond.send_response(accepted(), false)?);
    outgoing.push(message);
    poll_fn(|cx| outgoing.poll_drained(cx)).await?;
    outgoing.end_with(trailers(&Status::ok("")))
}

async fn send_many(
    mut respond: SendResponse<Bytes>,
    metadata: HeaderMap,
    mut messages: Messages,
    late: impl Future<Output = Status>,
) -> Result<(), h2::Error> {
    let mut response = accepted();
    response.headers_mut().extend(metadata);
    let mut outgoing = Outgoing::new(respond.send_response(response, false)?);
    let sending = poll_fn(|cx| {
        loop {
            if outgoing.poll_reset(cx).is_ready() {
                return Poll::Ready(Ok::<_, h2::Error>(None));
            }
            ready!(outgoing.poll_drained(cx))?;
            match ready!(messages.poll_next_unpin(cx)) {
                Some(Ok(message)) => outgoing.push(message),
                Some(Err(status)) => return Poll::Ready(Ok(Some(status))),
                None => return Poll::Ready(Ok(Some(Status::ok("")))),
            }
        }
    });
    let status = tokio::select! {
        status = sending => status?,
        status = late => Some(status),
    };
    // What the call holds is free before its client hears of the end.
    drop(messages);
    match status {
        Some(status) => outgoing.end_with(trailers(&status)),
        None => Ok(()),
    }
}

/// The only message of a request, once the client has ended it: a stream that is answered earlier
/// is also reset, which some clients take for a failure.
pub(crate) async fn message<T: Message + Default>(
    head: &Parts,
    body: RecvStream,
    peer: &Peer,
) -> Result<T, Status> {
    let mut incoming = Incoming::new(body, MessageEncoding::of(&head.headers)?, MAX_REQUEST)
        .within(peer.standing.budget.clone());
    let request = async {
        let message = poll_fn(|cx| incoming.poll_message(cx)).await;
        let message =
            message.unwrap_or_else(|| Err(Status::internal("the request has no message")))?;
        match poll_fn(|cx| incoming.poll_message(cx)).await {
            None => Ok(message),
            Some(Ok(_)) => Err(Status::internal("the request has several messages")),
            Some(Err(status)) => Err(status),
        }
    };
    tokio::time::timeout(REQUEST_LIMIT, request).await.unwrap_or_else(|_| {
        let message =
            format!("the request did not arrive whole within {} s", REQUEST_LIMIT.as_secs());
        Err(Status::deadline_exceeded(message))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let limit = |text: &'static str| {
            limit_of(&HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-timeout"),
                HeaderValue::from_static(text),
            )]))
        };
        assert_eq!(limit("5S"), Some(Duration::from_secs(5)));
        assert_eq!(limit("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(limit("250m"), Some(Duration::from_millis(250)));
        for wrong in ["", "S", "5", "5s", "123456789n", "-1S", "1 S"] {
            assert_eq!(limit(wrong), None, "{wrong}");
        }
    }
}
