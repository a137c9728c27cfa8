//! Files that an exporter stores: in a folder of its host, in its memory, or in a bucket.
//!
//! `opendal` ([`OpendalConfig`]) has the keys and methods of the driver in Python. Its schemes are
//! those of [OpenDAL](https://opendal.apache.org) that this program has.

mod config;

pub use config::OpendalConfig;
