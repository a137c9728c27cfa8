//! The TFTP server does what every driver must do, and its storage what every storage must do.

use jumpstarter_driver_testkit::{conformance, peer};
use jumpstarter_driver_tftp::{TftpConfig, TftpServer};

conformance!(
    TftpConfig,
    { "root_dir": peer::folder(), "host": "127.0.0.1", "port": 0 },
    [custom TftpServer, child storage: [storage]]
);
