//! Limits after which the system closes a TCP connection whose peer is lost.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;

/// The limits for an unresponsive peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpKeepalive {
    /// A connection that received nothing for this long is probed.
    pub idle: Duration,
    /// The time between probes.
    pub interval: Duration,
    /// The number of unanswered probes after which the connection is closed.
    pub probes: u32,
    /// On Linux, a connection is closed if sent data is not acknowledged for this long.
    pub unacknowledged: Duration,
}

impl TcpKeepalive {
    /// The exporter's: a lost client (its power, its network) is noticed within a minute or two.
    pub const EXPORTER: Self = Self {
        idle: Duration::from_secs(30),
        interval: Duration::from_secs(10),
        probes: 6,
        unacknowledged: Duration::from_secs(90),
    };

    /// Notices a lost peer within about `limit`, in whole seconds.
    pub fn within(limit: Duration) -> Self {
        let part = |parts: u32| (limit / parts).max(Duration::from_secs(1));
        Self { idle: part(2), interval: part(4), probes: 2, unacknowledged: part(1) }
    }

    /// Applies the limits to a TCP socket, and makes it send small messages at once.
    ///
    /// # Errors
    /// The system's errors.
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
