//! The driver does what every serial driver must do.

use jumpstarter::testkit::{conformance, peer};

conformance!(
    acme_lamp::AcmeLampConfig,
    { "host": "127.0.0.1", "port": peer::tcp_echo().await.port() },
    [serial(loopback)]
);
