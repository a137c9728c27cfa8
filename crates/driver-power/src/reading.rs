//! Readings out of JSON: where the figures are, and what they are.

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::serde_json::{self, Value};

/// Reads a meter's JSON. A figure without a path is the field of that name, and 0 where there is
/// none.
pub(crate) fn reading(
    json: &[u8],
    voltage_path: Option<&str>,
    current_path: Option<&str>,
) -> Result<PowerReading> {
    let value: Value = serde_json::from_slice(json).map_err(|error| {
        Error::failed_precondition("the reading is not JSON").with_source(error)
    })?;
    let voltage = figure(&value, voltage_path, "voltage")?;
    let current = figure(&value, current_path, "current")?;
    Ok(PowerReading { voltage, current })
}

fn figure(value: &Value, path: Option<&str>, name: &str) -> Result<f64> {
    let found = match find(value, path.unwrap_or(name)) {
        Some(found) => found,
        None if path.is_none() => return Ok(0.0),
        None => {
            let message = format!("the {name} `{}` is not in the reading", path.unwrap_or(name));
            return Err(Error::failed_precondition(message)
                .with_hint(format!("the reading is {}", shown(value))));
        }
    };
    let number = match found {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_f64(),
    };
    number.filter(|number: &f64| number.is_finite()).ok_or_else(|| {
        let message = format!("the {name} `{}` is no number", path.unwrap_or(name));
        Error::failed_precondition(message).with_hint(format!("it is {}", shown(found)))
    })
}

/// A JSON pointer (`/meters/0/power`), or names and positions with dots between (`meters.0.power`).
fn find<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    if path.starts_with('/') {
        return value.pointer(path);
    }
    path.split('.').try_fold(value, |value, part| match value {
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        other => other.get(part),
    })
}

/// The beginning of a value.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, paths: (Option<&str>, Option<&str>), expected: Result<(f64, f64), &str>) {
        let read = reading(json.as_bytes(), paths.0, paths.1);
        match (read, expected) {
            (Ok(read), Ok(expected)) => {
                assert_eq!((read.voltage, read.current), expected, "{json}")
            }
            (Err(error), Err(text)) => assert!(error.report().contains(text), "{}", error.report()),
            (read, expected) => panic!("{json}: {read:?}, not {expected:?}"),
        }
    }

    #[test]
    fn figures_are_found() {
        let both = |path| (Some(path), Some(path));
        check(r#"{"voltage": 12, "current": 2.5}"#, (None, None), Ok((12.0, 2.5)));
        check(r#"{"voltage": "230.5 "}"#, (None, None), Ok((230.5, 0.0)));
        let nested = r#"{"meters": [{"a.b": 1}, {"v": 231.0, "i": 0.45}], "x/y": 3}"#;
        check(nested, (Some("meters.1.v"), Some("/meters/1/i")), Ok((231.0, 0.45)));
        check(nested, (Some("/x~1y"), Some("/meters/0/a.b")), Ok((3.0, 1.0)));
        check(nested, both("meters.2.v"), Err("`meters.2.v` is not in the reading"));
        check(nested, both("meters.x.v"), Err("is not in the reading"));
        check(nested, both("meters"), Err("the voltage `meters` is no number"));
        check(r#"{"voltage": "high"}"#, (None, None), Err("it is \"high\""));
        check(r#"{"voltage": "inf"}"#, (None, None), Err("the voltage `voltage` is no number"));
        check("<html>", (None, None), Err("the reading is not JSON"));
    }
}
