//! Ports for servers that take their port from a configuration.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
#[cfg(target_os = "linux")]
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Below the ports that Linux gives to sockets that ask for any (`ip_local_port_range`), and below
/// those that virtual machines forward.
const PORTS: Range<u16> = 10_000..18_000;

/// A port of the loopback that is free for TCP and UDP, and that no other test gets while this
/// process lives: neither from this function, nor from the kernel as any free port.
///
/// The reservation is a socket in the abstract namespace of Linux, which ends with the process.
///
/// # Panics
/// If no port is free.
#[must_use]
pub fn reserve_port() -> u16 {
    // Processes begin at different ports, so that they seldom try the same ones.
    let first = std::process::id() as usize * 97 % PORTS.len();
    let port = PORTS.cycle().skip(first).take(PORTS.len()).find(|port| reserve(*port).is_ok());
    port.expect("a free port")
}

/// Reserves this port, if it is free.
fn reserve(port: u16) -> std::io::Result<()> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
    #[cfg(target_os = "linux")]
    {
        let name = SocketAddr::from_abstract_name(format!("jumpstarter-testkit-port-{port}"))?;
        std::mem::forget(UnixDatagram::bind_addr(&name)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once_and_not_while_something_listens_there() {
        let port = reserve_port();
        assert!(reserve(port).is_err(), "it is reserved");
        let another = reserve_port();
        assert_ne!(port, another);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, another)).expect("it is free");
        let taken = listener.local_addr().expect("its address").port();
        assert_eq!(taken, another);
    }
}
