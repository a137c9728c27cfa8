//! The vnc driver does what every driver must do.

use jumpstarter_driver_network as _;
use jumpstarter_driver_testkit::conformance;
use jumpstarter_driver_vnc::{Vnc, VncConfig};

conformance!(
    VncConfig, { "default_encrypt": true }, [custom Vnc],
    children: { "tcp": { "type": "echo" } }
);
