//! The network drivers do what every network driver must do.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::net::TcpListener;

use jumpstarter_driver_network::{EchoNetworkConfig, TcpNetworkConfig, UnixNetworkConfig};
use jumpstarter_driver_testkit::{conformance, peer};

conformance!(mod echo, EchoNetworkConfig, {}, [network(echo)], deadline: 60 s);
conformance!(
    mod tcp, TcpNetworkConfig, { "host": "127.0.0.1", "port": peer::tcp_echo().await.port() }, [network(echo)],
    deadline: 60 s
);
conformance!(mod unix, UnixNetworkConfig, { "path": peer::unix_echo() }, [network(echo)], deadline: 60 s);
// A port that nobody listens on: every call still ends as it must.
conformance!(mod refused, TcpNetworkConfig, { "host": "127.0.0.1", "port": closed_port() }, [network]);

fn closed_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).unwrap().port()
}
