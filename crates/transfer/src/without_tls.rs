//! Replaces TLS in programs that are built without it.

use jumpstarter_driver_core::{Error, Result};

use crate::exchange::Io;

/// There is none.
pub(crate) type Trust = std::convert::Infallible;

/// Refuses.
pub(crate) async fn secure(io: impl Io, _: &str, _: Option<&Trust>) -> Result<impl Io> {
    let refused: Result<()> = Err(Error::unimplemented("this program was built without TLS")
        .with_hint("fetch the image first, and name the file; or build with the feature `tls`"));
    refused.map(|()| io)
}
