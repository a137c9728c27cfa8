//! When the system gives up a TCP connection whose other end has vanished.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;

/// How long the other machine may acknowledge nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpKeepalive {
    /// A connection on which nothing came for so long is probed.
    pub idle: Duration,
    /// The time between probes.
    pub interval: Duration,
    /// After so many probes without an answer the connection is closed.
    pub probes: u32,
    /// On Linux, a connection on which something was sent is closed if it is not acknowledged for
    /// so long.
    pub unacknowledged: Duration,
}

impl TcpKeepalive {
    /// The exporter's: a client that has vanished (its power, its network) is noticed within a
    /// minute or two.
    pub const EXPORTER: Self = Self {
        idle: Duration::from_secs(30),
        interval: Duration::from_secs(10),
        probes: 6,
        unacknowledged: Duration::from_secs(90),
    };

    /// Notices within about `limit`, in whole seconds, that the other machine has vanished.
    pub fn within(limit: Duration) -> Self {
        let part = |parts: u32| (limit / parts).max(Duration::from_secs(1));
        Self { idle: part(2), interval: part(4), probes: 2, unacknowledged: part(1) }
    }

    /// Sets this for a TCP socket, on which small messages now leave at once.
    ///
    /// # Errors
    /// As the system's.
    pub fn apply(&self, socket: impl AsFd) -> io::Result<()> {
        sockopt::set_tcp_nodelay(&socket, true)?;
        sockopt::set_tcp_keepidle(&socket, self.idle)?;
        sockopt::set_tcp_keepintvl(&socket, self.interval)?;
        sockopt::set_tcp_keepcnt(&socket, self.probes)?;
        sockopt::set_socket_keepalive(&socket, true)?;
        #[cfg(target_os = "linux")]
        {
            let limit = u32::try_from(self.unacknowledged.as_millis()).unwrap_or(u32::MAX);
            sockopt::set_tcp_user_timeout(&socket, limit)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_watches_the_connection() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        TcpKeepalive::within(Duration::from_secs(20)).apply(&stream).unwrap();
        assert!(stream.nodelay().unwrap() && sockopt::socket_keepalive(&stream).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), Duration::from_secs(10));
        assert_eq!(sockopt::tcp_keepintvl(&stream).unwrap(), Duration::from_secs(5));
        assert_eq!(sockopt::tcp_keepcnt(&stream).unwrap(), 2);
        #[cfg(target_os = "linux")]
        assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), 20_000);
        let short = TcpKeepalive::within(Duration::from_millis(10));
        assert_eq!(short.interval, Duration::from_secs(1), "the system counts in seconds");
        TcpKeepalive::within(Duration::MAX / 8).apply(&stream).unwrap_err();
    }
}
