//! Reading a YAML file into a type, with all of its faults.

use std::io::Read;
use std::path::Path;

use schemars::{JsonSchema, SchemaGenerator};
use serde::de::DeserializeOwned;

use super::check::Checker;
use super::fault::{At, ConfigFaults, Fault, Place};
use super::yaml;

/// The largest file that is read: far more than any device needs.
const MAX_LENGTH: u64 = 1 << 20;

/// Reads a value of a type of the caller's from YAML that messages call `origin`: files beside
/// exporter files, such as a console's scripts, whose faults have places too.
///
/// # Errors
/// A syntax error, or the first value that does not fit.
pub fn read_yaml<T: DeserializeOwned>(text: &str, origin: &str) -> Result<T, ConfigFaults> {
    let root = parse(text).map_err(|faults| ConfigFaults::new(origin, faults))?;
    fit(&root, origin)
}

/// Reads a file into a type whose schema is checked first, so that all of its faults are known.
pub(super) fn load<T: DeserializeOwned + JsonSchema>(path: &Path) -> Result<T, ConfigFaults> {
    let origin = path.display().to_string();
    let file = std::fs::File::open(path).map_err(|error| unreadable(&origin, &error))?;
    checked(&text(file, &origin)?, &origin)
}

/// Reads a text, as [`load`] a file.
pub(super) fn checked<T: DeserializeOwned + JsonSchema>(
    text: &str,
    origin: &str,
) -> Result<T, ConfigFaults> {
    let root = parse(text).map_err(|faults| ConfigFaults::new(origin, faults))?;
    let mut generator = SchemaGenerator::default();
    let schema = T::json_schema(&mut generator).to_value();
    let start = At { path: String::new(), owner: Place { line: 1, column: 1 } };
    let mut faults = Vec::new();
    Checker::new(generator.take_definitions(true)).check(&schema, &root, &start, &mut faults);
    match faults.is_empty() {
        true => fit(&root, origin),
        false => Err(ConfigFaults::new(origin, faults)),
    }
}

/// Reads the one document of a text, which may begin with a byte order mark.
pub(super) fn parse(text: &str) -> Result<yaml::Node, Vec<Fault>> {
    yaml::parse(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn fit<T: DeserializeOwned>(root: &yaml::Node, origin: &str) -> Result<T, ConfigFaults> {
    serde_path_to_error::deserialize(root.value.to_json())
        .map_err(|error| ConfigFaults::new(origin, vec![misfit(root, &error)]))
}

/// Reads the bounded text of a file that messages call `origin`.
pub(super) fn text(input: impl Read, origin: &str) -> Result<String, ConfigFaults> {
    let bytes = read_bounded(input).map_err(|error| unreadable(origin, &error))?;
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .split(|byte| *byte == b'\n')
            .count();
        unreadable(origin, &format!("line {line} is not UTF-8 text"))
    })
}

pub(super) fn unreadable(origin: &str, why: &dyn std::fmt::Display) -> ConfigFaults {
    ConfigFaults::unreadable(origin, format!("cannot be read: {why}"))
}

fn read_bounded(input: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(MAX_LENGTH + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_LENGTH {
        true => Err(std::io::Error::other(format!("it is larger than {MAX_LENGTH} bytes"))),
        false => Ok(bytes),
    }
}

/// The fault of a value that passed the schema but does not fit its type.
pub(super) fn misfit(
    root: &yaml::Node,
    error: &serde_path_to_error::Error<serde_json::Error>,
) -> Fault {
    let path = error.path().to_string();
    let text = error.inner().to_string();
    let (message, hint) =
        text.split_once("\nhint: ").map_or((text.as_str(), None), |(m, h)| (m, Some(h)));
    let mut fault = Fault::new(root.locate(&path), path, message);
    fault.hint = hint.map(str::to_owned);
    fault
}
