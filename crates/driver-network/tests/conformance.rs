//! The network drivers do what every network driver must do.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::net::UdpSocket;

use jumpstarter_driver_network::{
    DbusNetworkConfig, EchoNetworkConfig, TcpNetworkConfig, UdpNetworkConfig, UnixNetworkConfig,
    VsockNetworkConfig,
};
use jumpstarter_driver_testkit::{conformance, peer, reserve_port};

conformance!(mod echo, EchoNetworkConfig, {}, [network(echo)], deadline: 60 s);
conformance!(
    mod tcp, TcpNetworkConfig, { "host": "127.0.0.1", "port": peer::tcp_echo().await.port() }, [network(echo)],
    deadline: 60 s
);
conformance!(mod unix, UnixNetworkConfig, { "path": peer::unix_echo() }, [network(echo)], deadline: 60 s);
conformance!(
    mod udp, UdpNetworkConfig, { "host": "127.0.0.1", "port": udp_echo() }, [network(echo)], deadline: 60 s
);
// A port that nobody listens on: every call still ends as it must.
conformance!(mod refused, TcpNetworkConfig, { "host": "127.0.0.1", "port": reserve_port() }, [network]);

conformance!(
    mod vsock, VsockNetworkConfig, { "cid": 1, "port": 0x7fff_fff0, "connect_timeout": "200ms" }, [network]
);
// Whether a bus runs here or not, and whatever it makes of clients that say nothing.
conformance!(mod dbus, DbusNetworkConfig, { "kind": "session" }, [network]);

/// A peer that sends each datagram back, for as long as this process lives.
fn udp_echo() -> u16 {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..length], peer).ok();
        }
    });
    port
}
