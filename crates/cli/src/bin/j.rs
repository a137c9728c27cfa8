//! The `j` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    jumpstarter_cli::j()
}
