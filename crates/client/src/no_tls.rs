//! Replaces TLS if this crate is built without it.

use std::io;

use jumpstarter_driver_core::{Error, Result};
use jumpstarter_protocol::Transport;

use crate::{Address, ConnectOptions};

/// Never constructed.
#[derive(Clone, Debug)]
pub(crate) enum TlsFailure {}

impl TlsFailure {
    pub(crate) fn find(_: &io::Error) -> Option<Self> {
        None
    }
}

/// # Errors
/// Fails with `Unimplemented`.
pub(crate) async fn handshake(
    options: &ConnectOptions,
    _: &str,
    socket: Box<dyn Transport>,
) -> Result<Box<dyn Transport>> {
    drop(socket);
    let message = format!("connecting to {} with TLS: this program cannot", options.address);
    Err(Error::unimplemented(message).with_hint(
        "build jumpstarter-client with its feature `tls`, or use an exporter without TLS and set JMP_GRPC_INSECURE=1",
    ))
}

pub(crate) fn explain(failure: &TlsFailure, _: &Address, _: &ConnectOptions) -> Option<Error> {
    match *failure {}
}
