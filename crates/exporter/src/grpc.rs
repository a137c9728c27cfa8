//! One call, from its headers to its status
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use std::future::{pending, poll_fn};
use std::task::{Poll, ready};

use futures_util::StreamExt;
use http::{HeaderMap, Request, Response, StatusCode};
use jumpstarter_driver_core::{Error, Result};
use jumpstarter_protocol::http2::{Body, Respond};
use jumpstarter_protocol::{CallError, Encoded, grpc, write_status};
use tokio::time::Instant;

use crate::Session;
use crate::answer::{Answer, Messages};
use crate::layers::{self, Passphrase};
use crate::peer::Peer;

/// Answers a call. The call, and all that it opened, ends when it is answered, when its client
/// cancels it, and when its connection is lost.
pub(crate) async fn answer(
    session: Session,
    passphrase: Option<Passphrase>,
    peer: Peer,
    request: Request<Body>,
    mut respond: Respond,
) {
    let (head, body) = request.into_parts();
    if !grpc::is_call(&head.method, &head.headers) {
        let response = Response::builder().status(StatusCode::UNSUPPORTED_MEDIA_TYPE).body(());
        // It fails only if nobody waits for it any more.
        drop(response.map(|response| respond.end(response)));
        return;
    }
    let deadline = grpc::timeout(&head.headers).map(|limit| Instant::now() + limit);
    let called = async {
        layers::enter(&session, passphrase.as_ref(), &peer, &head).await?;
        session.dispatch(&head, body, &peer).await
    };
    // The reset comes first. A client that leaves resets the streams of its images as well, and the
    // driver's error about an image would hide the cancellation.
    let answer = tokio::select! {
        biased;
        () = poll_fn(|cx| respond.poll_reset(cx)) => return,
        answer = called => answer,
        error = late(deadline) => Err(error),
    };
    let sent = match answer {
        Err(error) => refuse(&mut respond, &error),
        Ok(Answer::One(message)) => send_one(respond, message).await,
        Ok(Answer::Many(metadata, messages)) => {
            // A client that reads nothing keeps nothing of a driver open.
            let over = async {
                tokio::select! {
                    error = late(deadline) => error,
                    () = session.0.shutdown.cancelled() => layers::shutting_down(),
                }
            };
            send_many(respond, metadata, messages, over).await
        }
        Ok(Answer::ToTheLast(messages)) => {
            send_many(respond, HeaderMap::new(), messages, late(deadline)).await
        }
    };
    if let Err(error) = sent {
        tracing::trace!(%error, "a client went away while it was answered");
    }
}

/// Completes at the client's deadline.
async fn late(deadline: Option<Instant>) -> Error {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => pending().await,
    }
    Error::deadline_exceeded("the client's deadline for the call has passed")
}

fn trailers(outcome: Result<(), &Error>) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    write_status(&mut trailers, outcome);
    trailers
}

fn refuse(respond: &mut Respond, error: &Error) -> Result<(), CallError> {
    let mut response = grpc::response();
    write_status(response.headers_mut(), Err(error));
    grpc::say_encodings(response.headers_mut());
    respond.end(response)
}

async fn send_one(mut respond: Respond, message: Encoded) -> Result<(), CallError> {
    let mut outgoing = respond.begin(grpc::response())?;
    outgoing.push(message);
    poll_fn(|cx| outgoing.poll_drained(cx)).await?;
    outgoing.end_with(trailers(Ok(())))
}

async fn send_many(
    mut respond: Respond,
    metadata: HeaderMap,
    mut messages: Messages,
    over: impl Future<Output = Error>,
) -> Result<(), CallError> {
    let mut response = grpc::response();
    response.headers_mut().extend(metadata);
    let mut outgoing = respond.begin(response)?;
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
        biased;
        outcome = sending => outcome?,
        error = over => Some(Err(error)),
    };
    // The call's resources are freed before its client sees the end.
    drop(messages);
    match outcome {
        Some(outcome) => outgoing.end_with(trailers(outcome.as_ref().copied())),
        None => Ok(()),
    }
}
