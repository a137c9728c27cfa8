//! The ssh driver does what every driver must do.

use jumpstarter_driver_network as _;
use jumpstarter_driver_ssh::{Ssh, SshConfig};
use jumpstarter_driver_testkit::conformance;

conformance!(
    SshConfig, { "default_username": "root", "ssh_identity": "a key" }, [custom Ssh],
    children: { "tcp": { "type": "echo" } }
);
