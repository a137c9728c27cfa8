//! What HTTP/2 is spoken on.

use tokio::io::{AsyncRead, AsyncWrite};

/// A socket, or TLS over one.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}
