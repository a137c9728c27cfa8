//! Connecting: the socket, TLS, the first answer, and an explanation if one of them fails.

use std::sync::Arc;
use std::time::Duration;

use jumpstarter_driver_core::{Error, ErrorKind, Result};
use jumpstarter_protocol::{CallError, Transport};
use tokio::time::Instant;

use crate::connection::Connection;
use crate::failure::Failure;
use crate::socket::{self, Noting, Traffic};
use crate::{Address, ConnectOptions, Exporter, tls};

/// The first bytes of a TLS record of type alert.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];
/// An exporter that many connect to at a time closes some connections before their first call:
/// the client tries again within this time.
const CUT_OFF_LIMIT: Duration = Duration::from_secs(3);
/// Between two attempts, and as much again at most, so that clients spread.
const PAUSE: Duration = Duration::from_millis(25);

/// Connects to an exporter and reads its tree. Cancelling leaves nothing.
///
/// # Errors
/// Each error has a hint:
/// - `NotFound`, `Unavailable`: there is no socket, nothing listens, or the other side speaks
///   another protocol.
/// - `PermissionDenied`, `Unauthenticated`: a certificate or the passphrase, on either side.
/// - `InvalidArgument`: an option that can never work. `DeadlineExceeded`: it took too long.
pub async fn connect(options: &ConnectOptions) -> Result<Exporter> {
    let limit = options.connect_timeout;
    tokio::time::timeout(limit, establish(options)).await.unwrap_or_else(|_| {
        let message = format!("connecting to {}: no answer within {limit:?}", options.address);
        Err(Error::deadline_exceeded(message)
            .with_hint("check the address, and whether a firewall drops the packets"))
    })
}

async fn establish(options: &ConnectOptions) -> Result<Exporter> {
    let end = Instant::now() + CUT_OFF_LIMIT;
    loop {
        match attempt(options).await {
            Ok(exporter) => return Ok(exporter),
            Err(Failure::CutOff(error)) if Instant::now() < end => {
                tracing::debug!(%error, "connecting again");
                tokio::time::sleep(PAUSE + PAUSE.mul_f64(fraction())).await;
            }
            Err(Failure::CutOff(error) | Failure::Final(error)) => return Err(error),
        }
    }
}

async fn attempt(options: &ConnectOptions) -> Result<Exporter, Failure> {
    let socket = socket::open(&options.address, options.keepalive).await?;
    match &options.address {
        Address::Tcp { host, .. } if !options.insecure => {
            greet(options, tls::handshake(options, host, socket).await?).await
        }
        _ => greet(options, socket).await,
    }
}

/// Connects to the exporter at the other end of an open transport.
#[cfg(feature = "lab")]
pub(crate) async fn over(
    options: &ConnectOptions,
    transport: impl Transport + 'static,
) -> Result<Exporter> {
    let limit = options.connect_timeout;
    let greeted = tokio::time::timeout(limit, greet(options, transport)).await;
    match greeted {
        Ok(Ok(exporter)) => Ok(exporter),
        Ok(Err(Failure::CutOff(error) | Failure::Final(error))) => Err(error),
        Err(_) => {
            let message =
                format!("the exporter {} did not answer within {limit:?}", options.address);
            Err(Error::deadline_exceeded(message)
                .with_hint("the exporter may be away: try again, or ask who runs it"))
        }
    }
}

/// Any number from 0 to 1.
fn fraction() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    f64::from(now.unwrap_or_default().subsec_micros() % 1000) / 1000.0
}

/// Requests the report: the first call of every connection.
async fn greet<T: Transport + 'static>(
    options: &ConnectOptions,
    io: T,
) -> Result<Exporter, Failure> {
    let io = Noting::new(io);
    let traffic = io.traffic().clone();
    let connection = Connection::start(options, io).await?;
    let closing = connection.close_on_drop();
    match connection.first().await {
        Ok(report) => {
            closing.disarm();
            Ok(Exporter::new(Arc::new(connection), report, options)?)
        }
        Err(error) => Err(first_failure(&connection, options, error, &traffic).await),
    }
}

/// Explains why the first call failed.
async fn first_failure(
    connection: &Connection,
    options: &ConnectOptions,
    error: CallError,
    traffic: &Traffic,
) -> Failure {
    let address = &options.address;
    let is_cut_off = matches!(error, CallError::Broken(_));
    let error = match error {
        CallError::Answer(error) => return refused(options, error).into(),
        error => connection.reason(error).await.context(format!("connecting to {address}")),
    };
    // After a TLS handshake the server may still reject this client.
    if let Some(failure) = traffic.tls_failure()
        && let Some(explained) = tls::explain(failure, address, options)
    {
        return explained.into();
    }
    let first = traffic.beginning();
    let unavailable = |message: String| Error::unavailable(message);
    if first.starts_with(&TLS_ALERT) {
        unavailable(format!("{address} wants TLS"))
            .with_hint("leave out JMP_GRPC_INSECURE (--tls-grpc-insecure)")
            .into()
    } else if first.is_empty() {
        let error = unavailable(format!("{address} closed the connection without an answer"))
            .with_hint("check that an exporter listens there, and whether it wants TLS");
        Failure::CutOff(error)
    } else if first.get(3) != Some(&0x04) {
        unavailable(format!("{address} does not speak gRPC"))
            .with_hint("check the port: another service listens there")
            .into()
    } else if is_cut_off {
        Failure::CutOff(error)
    } else {
        error.into()
    }
}

/// Explains the exporter's own answer to the first call.
fn refused(options: &ConnectOptions, error: Error) -> Error {
    let address = &options.address;
    match error.kind() {
        ErrorKind::Unauthenticated => {
            let (message, hint) = match options.passphrase {
                Some(_) => (
                    format!("{address} does not accept the passphrase"),
                    "check JMP_GRPC_PASSPHRASE",
                ),
                None => (
                    format!("{address} asks for a passphrase"),
                    "set JMP_GRPC_PASSPHRASE (--passphrase)",
                ),
            };
            Error::unauthenticated(message).with_hint(hint)
        }
        ErrorKind::Unimplemented => {
            Error::unavailable(format!("{address} is not an exporter: {error}"))
                .with_hint("check the port: another service listens there")
        }
        _ => error.context(format!("connecting to {address}")),
    }
}
