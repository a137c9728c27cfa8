//! `jmp` and `j` with this driver and those of Jumpstarter.

use acme_lamp as _; // A crate that no code names is not linked.

fn main() -> std::process::ExitCode {
    jumpstarter::cli::main()
}
