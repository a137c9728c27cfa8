//! One call, from its headers to its status (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use std::future::{pending, poll_fn};
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use h2::RecvStream;
use h2::server::SendResponse;
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use jumpstarter_driver_core::{Error, Result};
use jumpstarter_protocol::{
    CallError, Encoded, Incoming, MessageEncoding, Outgoing, grpc, write_status,
};
use prost::Message;
use tokio::time::Instant;

use crate::Session;
use crate::connection::Peer;
use crate::passphrase::Passphrase;

/// The whole request of a call with one message may take so long to arrive.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// The longest message of a call: its arguments.
const MAX_REQUEST: usize = 4 << 20;

/// What a method answers.
pub(crate) enum Answer {
    /// One message.
    One(Encoded),
    /// Initial metadata at once, and messages as they come.
    Many(HeaderMap, Messages),
}

/// The messages of an answer, until its end or its failure.
pub(crate) type Messages = BoxStream<'static, Result<Encoded>>;

impl Answer {
    pub(crate) fn one(message: &impl Message) -> Result<Self> {
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
    if !grpc::is_call(&head.method, &head.headers) {
        let response = Response::builder().status(StatusCode::UNSUPPORTED_MEDIA_TYPE).body(());
        // It fails only where nobody waits for it any more.
        drop(response.map(|response| respond.send_response(response, true)));
        return;
    }
    let deadline = grpc::timeout(&head.headers).map(|limit| Instant::now() + limit);
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
        error = late(deadline) => Err(error),
    };
    let sent = match answer {
        Err(error) => refuse(&mut respond, &error),
        Ok(Answer::One(message)) => send_one(respond, message).await,
        Ok(Answer::Many(metadata, messages)) => {
            send_many(respond, metadata, messages, late(deadline)).await
        }
    };
    if let Err(error) = sent {
        tracing::trace!(%error, "a client went away while it was answered");
    }
}

/// Ends when the client's time is over.
async fn late(deadline: Option<Instant>) -> Error {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => pending().await,
    }
    Error::deadline_exceeded("the client's time for the call is over")
}

fn trailers(outcome: Result<(), &Error>) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    write_status(&mut trailers, outcome);
    trailers
}

fn refuse(respond: &mut SendResponse<Bytes>, error: &Error) -> Result<(), CallError> {
    let mut response = grpc::response();
    write_status(response.headers_mut(), Err(error));
    grpc::say_encodings(response.headers_mut());
    Ok(respond.send_response(response, true).map(drop)?)
}

async fn send_one(mut respond: SendResponse<Bytes>, message: Encoded) -> Result<(), CallError> {
    let mut outgoing = Outgoing::new(respond.send_response(grpc::response(), false)?);
    outgoing.push(message);
    poll_fn(|cx| outgoing.poll_drained(cx)).await?;
    outgoing.end_with(trailers(Ok(())))
}

async fn send_many(
    mut respond: SendResponse<Bytes>,
    metadata: HeaderMap,
    mut messages: Messages,
    late: impl Future<Output = Error>,
) -> Result<(), CallError> {
    let mut response = grpc::response();
    response.headers_mut().extend(metadata);
    let mut outgoing = Outgoing::new(respond.send_response(response, false)?);
    let sending = poll_fn(|cx| {
        loop {
            if outgoing.poll_reset(cx).is_ready() {
                return Poll::Ready(Ok::<_, CallError>(None));
            }
            ready!(outgoing.poll_drained(cx))?;
            match ready!(messages.poll_next_unpin(cx)) {
                Some(Ok(message)) => outgoing.push(message),
                Some(Err(error)) => return Poll::Ready(Ok(Some(Err(error)))),
                None => return Poll::Ready(Ok(Some(Ok(())))),
            }
        }
    });
    let outcome = tokio::select! {
        outcome = sending => outcome?,
        error = late => Some(Err(error)),
    };
    // What the call holds is free before its client hears of the end.
    drop(messages);
    match outcome {
        Some(outcome) => outgoing.end_with(trailers(outcome.as_ref().copied())),
        None => Ok(()),
    }
}

/// The only message of a request, once the client has ended it: a stream that is answered earlier
/// is also reset, which some clients take for a failure.
pub(crate) async fn message<T: Message + Default>(
    head: &Parts,
    body: RecvStream,
    peer: &Peer,
) -> Result<T> {
    let mut incoming = Incoming::new(body, MessageEncoding::of(&head.headers)?, MAX_REQUEST)
        .within(peer.standing.budget.clone());
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
