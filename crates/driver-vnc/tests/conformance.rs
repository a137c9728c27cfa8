//! The vnc driver does what every driver must do.

use jumpstarter_driver_network as _;
use jumpstarter_driver_testkit::{conformance, peer};
use jumpstarter_driver_vnc::{Vnc, VncConfig};

conformance!(
    VncConfig, { "default_encrypt": true }, [custom Vnc, vnc],
    children: { "tcp": { "type": "tcp", "config": { "host": "127.0.0.1", "port": peer::screen().await.port() } } }
);
