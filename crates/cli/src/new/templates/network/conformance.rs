//! The driver does what every network driver must do.

use jumpstarter::testkit::{conformance, peer};

conformance!(
    acme_lamp::AcmeLampConfig,
    { "host": "127.0.0.1", "port": peer::tcp_echo().await.port() },
    [network(echo)],
    deadline: 60 s
);
