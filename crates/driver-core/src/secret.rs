//! Text that is never printed.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io::Read;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer};

use crate::error::{Error, Result, ResultExt};
use crate::host_path::HostPath;

/// The longest file of a secret.
const MAX_BYTES: u64 = 64 << 10;

/// A password, token or key. `Debug` and `Display` print `***`; serialising is not possible.
///
/// An exporter file has the text itself, or says where the exporter finds it: `{env: NAME}` is an
/// environment variable, `{file: PATH}` a file, whose last line feed does not count. Such a secret
/// is read when its driver is opened. Before, as in
/// [`DriverConfig::check`](crate::DriverConfig::check), it [is elsewhere](Secret::is_elsewhere) and
/// its text is empty.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret {
    text: String,
    elsewhere: Option<Elsewhere>,
}

/// The place of the text.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Elsewhere {
    env: Option<String>,
    file: Option<HostPath>,
    /// The place in the exporter file, for errors.
    place: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected text, `{env: NAME}` or `{file: PATH}`")]
enum Written {
    Text(String),
    Elsewhere(Elsewhere),
}

impl Secret {
    /// The `format` of its JSON schema.
    pub const FORMAT: &str = "secret";

    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), elsewhere: None }
    }

    /// Returns the text, for the one place that needs it. Empty while it is elsewhere.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Whether its text is in an environment variable or a file, and not read yet.
    pub fn is_elsewhere(&self) -> bool {
        self.elsewhere.is_some()
    }

    /// Reads the text, if it is elsewhere. It reads files, and so may block. For the configuration
    /// of a driver this is done before [`DriverConfig::open`](crate::DriverConfig::open).
    ///
    /// # Errors
    /// `NotFound` if there is no such variable or file, `InvalidArgument` if it holds no text or
    /// too much. The error names the place in the exporter file, never the text.
    pub fn resolve(self) -> Result<Self> {
        let Some(elsewhere) = self.elsewhere else { return Ok(self) };
        let place = elsewhere.place.clone();
        let read = elsewhere.read().map_err(|error| match place {
            Some(place) => error.context(place),
            None => error,
        });
        read.map(Self::new)
    }
}

impl Elsewhere {
    fn read(self) -> Result<String> {
        let (what, text) = match (self.env, self.file) {
            (Some(name), None) => (format!("the environment variable `{name}`"), read_env(&name)?),
            (None, Some(path)) => (format!("the file {}", path.display()), read_file(&path)?),
            _ => return Err(Error::invalid_argument("name either `env` or `file`")),
        };
        match text.is_empty() {
            true => Err(Error::invalid_argument(format!("{what} is empty"))),
            false => Ok(text),
        }
    }
}

fn read_env(name: &str) -> Result<String> {
    let hint = "set it for the program that serves the device, in its unit or its shell";
    match std::env::var(name) {
        Ok(text) => Ok(text),
        Err(std::env::VarError::NotPresent) => {
            let message = format!("the environment variable `{name}` is not set");
            Err(Error::not_found(message).with_hint(hint))
        }
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Error::invalid_argument(format!("the environment variable `{name}` is not text")))
        }
    }
}

fn read_file(path: &HostPath) -> Result<String> {
    let found = path.find()?;
    let read = || -> Result<String> {
        let mut bytes = Vec::new();
        File::open(&found)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Error::invalid_argument(format!("it is larger than {MAX_BYTES} bytes")));
        }
        // The error of the conversion would hold the text.
        let text = String::from_utf8(bytes).map_err(|_| Error::invalid_argument("it is not text"));
        text.map(|text| {
            let line = text.strip_suffix('\n').unwrap_or(&text);
            line.strip_suffix('\r').unwrap_or(line).to_owned()
        })
    };
    read().with_context(|| format!("reading the file {}", found.display()))
}

thread_local! {
    /// Whether deserialising a secret reads it, and the first error of that.
    static RESOLVING: RefCell<Option<Option<Error>>> = const { RefCell::new(None) };
}

/// Runs `read`, during which deserialising a secret reads its text. It may block.
///
/// # Errors
/// The errors of [`Secret::resolve`], for the first secret.
pub(crate) fn resolving<T>(read: impl FnOnce() -> T) -> Result<T> {
    struct Scope;
    impl Drop for Scope {
        fn drop(&mut self) {
            RESOLVING.with_borrow_mut(|resolving| *resolving = None);
        }
    }
    let _scope = Scope;
    RESOLVING.with_borrow_mut(|resolving| *resolving = Some(None));
    let done = read();
    let failed = RESOLVING.with_borrow_mut(|resolving| resolving.as_mut().and_then(Option::take));
    failed.map_or(Ok(done), Err)
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let secret = match Written::deserialize(deserializer)? {
            Written::Text(text) => return Ok(Self::new(text)),
            Written::Elsewhere(elsewhere)
                if elsewhere.env.is_some() == elsewhere.file.is_some() =>
            {
                return Err(de::Error::custom("name either `env` or `file`"));
            }
            Written::Elsewhere(elsewhere) => {
                Self { text: String::new(), elsewhere: Some(elsewhere) }
            }
        };
        RESOLVING.with_borrow_mut(|resolving| match resolving {
            None => Ok(secret),
            Some(first) => secret.resolve().map_err(|error| {
                let text = de::Error::custom(&error);
                first.get_or_insert(error);
                text
            }),
        })
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Text that is never printed: itself, `{env: NAME}` or `{file: PATH}`.",
            "type": ["string", "object"],
            "format": Self::FORMAT,
            "writeOnly": true,
            "properties": {
                "env": {
                    "type": "string", "minLength": 1,
                    "description": "The environment variable that holds it.",
                },
                "file": {
                    "type": "string", "minLength": 1, "format": HostPath::FORMAT,
                    "description": "The file that holds it.",
                },
            },
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": false,
        })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use serde_json::json;

    fn read(value: serde_json::Value) -> Result<Secret> {
        let read = resolving(|| serde_json::from_value::<Secret>(value))?;
        Ok(read.unwrap())
    }

    #[test]
    fn a_file_is_read_without_its_last_line_feed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for (written, expected) in [("s3cret\n", "s3cret"), ("a\nb\r\n", "a\nb"), ("bare", "bare")]
        {
            std::fs::write(&path, written).unwrap();
            assert_eq!(read(json!({"file": path})).unwrap().expose(), expected);
        }
        for (written, kind) in
            [(&b"\n"[..], ErrorKind::InvalidArgument), (b"\xff", ErrorKind::InvalidArgument)]
        {
            std::fs::write(&path, written).unwrap();
            assert_eq!(read(json!({"file": path})).unwrap_err().kind(), kind);
        }
        std::fs::write(&path, vec![b'x'; MAX_BYTES as usize + 1]).unwrap();
        let error = read(json!({"file": path})).unwrap_err();
        assert!(error.report().contains("larger than"), "{error:?}");
        let error = read(json!({"file": folder.path().join("none")})).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn what_is_elsewhere_is_read_when_it_is_asked_for() {
        let written = json!({"env": "JUMPSTARTER_NO_SUCH_SECRET"});
        let secret: Secret = serde_json::from_value(written.clone()).unwrap();
        assert!(secret.is_elsewhere() && secret.expose().is_empty());
        assert_eq!(format!("{secret:?} {secret}"), "*** ***");
        assert_eq!(secret.resolve().unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(read(written).unwrap_err().kind(), ErrorKind::NotFound);
        let path = std::env::var("PATH").unwrap();
        assert_eq!(read(json!({"env": "PATH"})).unwrap().expose(), path);
    }

    #[test]
    fn other_forms_are_refused_without_the_value() {
        for wrong in [
            json!(7353),
            json!({"env": "A", "file": "7353"}),
            json!({"environment": "7353"}),
            json!({}),
        ] {
            let error = serde_json::from_value::<Secret>(wrong).unwrap_err().to_string();
            assert!(!error.contains("7353"), "{error}");
            assert!(error.contains("env"), "{error}");
        }
    }
}
