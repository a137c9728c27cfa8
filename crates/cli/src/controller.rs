//! Upstream's commands that this program does not have yet: each fails and says so.

use jumpstarter_driver_core::Error;

/// The error for a command that only upstream has; `None` for any other word.
pub(crate) fn command(name: &str) -> Option<Error> {
    let instead = match name {
        "exporter" | "exporters" => {
            "`jmp config exporter` manages exporter files, `jmp run` serves the device of one"
        }
        "serve" | "start" => "run `jmp run FILE`",
        "admin" => {
            "use `kubectl`: clients, exporters and leases are objects of `jumpstarter.dev/v1alpha1`; or upstream's \
             `jmp admin` (`pip install jumpstarter-cli`)"
        }
        "mcp" => "use upstream's `jmp mcp serve` (`pip install jumpstarter-cli`)",
        _ => return None,
    };
    Some(Error::unimplemented(format!("there is no `jmp {name}` here")).with_hint(instead))
}
