//! A TFTP server for the device, whose boot loader fetches there what clients put into the child
//! `storage`.
//!
//! `tftp` ([`TftpConfig`]) has the keys and methods of the driver in Python. It is read-only, and
//! speaks RFC 1350 with the options of RFC 2347 (`blksize`, RFC 2348; `timeout` and `tsize`, RFC
//! 2349; `windowsize`, RFC 7440).

mod blocks;
mod config;
mod driver;
mod interface;
mod options;
mod packet;
mod server;
mod transfer;

pub use config::TftpConfig;
pub use driver::TftpDriver;
pub use interface::TftpServer;
