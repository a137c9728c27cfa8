//! The HTTP server does what every driver must do, and its storage what every storage must do.

use jumpstarter_driver_http::{HttpServer, HttpServerConfig};
use jumpstarter_driver_testkit::{conformance, peer};

conformance!(
    HttpServerConfig,
    { "root_dir": peer::folder(), "host": "127.0.0.1", "port": 0 },
    [custom HttpServer, child storage: [storage]]
);
