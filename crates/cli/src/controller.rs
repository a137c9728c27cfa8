//! Upstream's commands that this program does not have yet: each fails and says so.

use jumpstarter_driver_core::Error;

/// The error for what needs a controller.
fn unsupported(what: &str) -> Error {
    Error::unimplemented(format!("{what} is not supported yet")).with_hint(
        "name an exporter file with --exporter-config FILE or --exporter ALIAS, or an exporter that listens with \
         --tls-grpc HOST:PORT",
    )
}

/// The error for a command that only upstream has; `None` for any other word.
pub(crate) fn command(name: &str) -> Option<Error> {
    let instead = match name {
        "version" => "run `jmp --version`",
        "driver" => "run `jmp drivers`",
        "exporter" | "exporters" => {
            "`jmp config exporter` manages exporter files, `jmp run` serves the device of one"
        }
        "serve" | "start" => "run `jmp run FILE`",
        "login" | "admin" | "mcp" => {
            return Some(unsupported(&format!("`jmp {name}`, which works with a controller,")));
        }
        _ => return None,
    };
    Some(Error::unimplemented(format!("there is no `jmp {name}` here")).with_hint(instead))
}
