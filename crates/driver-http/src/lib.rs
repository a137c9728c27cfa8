//! An HTTP server for the device: it fetches there what clients put into the child `storage`.
//!
//! `http` ([`HttpServerConfig`]) has the keys and methods of the driver in Python.

mod answer;
mod config;
mod driver;
mod idle;
mod interface;
mod range;
mod server;

pub use config::HttpServerConfig;
pub use driver::HttpServerDriver;
pub use interface::HttpServer;
