//! Connecting: the socket, TLS, the first answer, and an explanation if one of them fails.

use std::sync::Arc;

use jumpstarter_driver_core::{Error, ErrorKind, Result};
use jumpstarter_protocol::{CallError, Transport};

use crate::connection::Connection;
use crate::socket::{self, Noting, Traffic};
use crate::{Address, ConnectOptions, Exporter, tls};

/// The first bytes of a TLS record of type alert.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];

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
    let socket = socket::open(&options.address, options.keepalive).await?;
    match &options.address {
        Address::Tcp { host, .. } if !options.insecure => {
            greet(options, tls::handshake(options, host, socket).await?).await
        }
        _ => greet(options, socket).await,
    }
}

/// Requests the report: the first call of every connection.
async fn greet<T: Transport + 'static>(options: &ConnectOptions, io: T) -> Result<Exporter> {
    let io = Noting::new(io);
    let traffic = io.traffic().clone();
    let connection = Connection::start(options, io).await?;
    let closing = connection.close_on_drop();
    match connection.first().await {
        Ok(report) => {
            closing.disarm();
            Exporter::new(Arc::new(connection), report, options)
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
) -> Error {
    let address = &options.address;
    let error = match error {
        CallError::Answer(error) => return refused(options, error),
        error => connection.reason(error).await.context(format!("connecting to {address}")),
    };
    // After a TLS handshake the server may still reject this client.
    if let Some(failure) = traffic.tls_failure()
        && let Some(explained) = tls::explain(failure, address, options)
    {
        return explained;
    }
    let first = traffic.beginning();
    let unavailable = |message: String| Error::unavailable(message);
    if first.starts_with(&TLS_ALERT) {
        unavailable(format!("{address} wants TLS"))
            .with_hint("leave out JMP_GRPC_INSECURE (--tls-grpc-insecure)")
    } else if first.is_empty() {
        unavailable(format!("{address} closed the connection without an answer"))
            .with_hint("check that an exporter listens there, and whether it wants TLS")
    } else if first.get(3) != Some(&0x04) {
        unavailable(format!("{address} does not speak gRPC"))
            .with_hint("check the port: another service listens there")
    } else {
        error
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
