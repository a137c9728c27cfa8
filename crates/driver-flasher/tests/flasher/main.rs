//! The image pipeline against real files, real tools and real interruptions.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod atomic;
mod block_maps;
mod codecs;
mod devices;
mod drivers;
mod hanging;
mod limits;
mod medium;
mod mux;
mod support;
mod transfer;
