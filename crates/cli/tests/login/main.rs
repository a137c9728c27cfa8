//! `jmp login` and `jmp auth` with a real OpenID provider, and a controller that takes its tokens.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../support/inside.rs"]
mod inside;
#[path = "../support/lab.rs"]
mod lab;
#[path = "../support/provider.rs"]
mod provider;
#[path = "../support/terminal.rs"]
mod terminal;

mod bench;
mod errors;
mod expiry;
mod ways;
