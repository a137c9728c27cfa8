//! TCP connections to devices.

use std::io;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;

/// How long a connection is silent until its peer is asked whether it still exists.
const SILENCE: Duration = Duration::from_secs(60);
/// The pause between such questions.
const PROBE_INTERVAL: Duration = Duration::from_secs(15);
/// How many of them stay without an answer.
const PROBES: u32 = 4;

/// Makes a connection to a device send small pieces at once, and notice after two minutes that the
/// peer's machine is lost.
///
/// # Errors
/// Those of the system.
pub fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, SILENCE)?;
    sockopt::set_tcp_keepintvl(stream, PROBE_INTERVAL)?;
    Ok(sockopt::set_tcp_keepcnt(stream, PROBES)?)
}
