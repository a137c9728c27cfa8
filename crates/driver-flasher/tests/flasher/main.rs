//! The image pipeline against real files, real tools and real interruptions.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail by panicking, and say why one is skipped"
)]

mod atomic;
mod codecs;
mod drivers;
mod hanging;
mod limits;
mod support;
mod transfer;
