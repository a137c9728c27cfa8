//! Paths of this machine in exporter files, and how relative ones are resolved.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::ops::Deref;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer};
use serde_json::{Value as Json, json};

use crate::error::{Error, Result};
use crate::suggest;

/// A path of this machine in an exporter file: every field that names a file, a device or a socket
/// has this type.
///
/// A relative path is looked up in the folder of the exporter file first, then in the working
/// directory; if neither has it, it is meant to be in the folder. The place is chosen when the
/// exporter file is loaded. `~` and `~/…` are the user's home. A `HostPath` dereferences to a
/// [`Path`]: the chosen place.
///
/// The loader finds such fields by the `format` in their schema: `path` for this type,
/// `path-or-url` for a type that also takes other text, and deserialises a `HostPath` first.
///
/// Without an exporter file, a relative path stays relative to the working directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPath {
    written: String,
    /// The chosen place.
    path: PathBuf,
    /// The candidates for a relative path, in this order; empty for other paths.
    places: Vec<PathBuf>,
}

impl HostPath {
    /// The `format` of its JSON schema.
    pub const FORMAT: &str = "path";
    /// The `format` of text that is a path or, by its form, something else: its type reads a
    /// `HostPath` first, and checks the [written](HostPath::written) text.
    pub const FORMAT_OR_URL: &str = "path-or-url";

    /// Resolves `text` from an exporter file: a relative path is looked up in `folders`, in that
    /// order. Uses the file system, and so may block.
    ///
    /// # Errors
    /// `InvalidArgument` for text that is not a path.
    pub fn in_folders(text: &str, folders: &[PathBuf]) -> Result<Self> {
        let mut path: HostPath = text.parse()?;
        if path.path.is_relative() {
            // Joined by components: without `./`.
            let place = |folder: &PathBuf| folder.join(&path.path).components().collect();
            path.places = folders.iter().map(place).collect();
            let found = path.places.iter().find(|place| std::fs::symlink_metadata(place).is_ok());
            if let Some(place) = found.or(path.places.first()) {
                path.path = place.clone();
            }
        }
        Ok(path)
    }

    /// The value from which `Deserialize` reads the same path: plain text if no place was chosen.
    pub fn to_value(&self) -> Json {
        let bytes = |path: &Path| json!(path.as_os_str().as_encoded_bytes());
        if self.places.is_empty() {
            return self.written.as_str().into();
        }
        let places: Vec<Json> = self.places.iter().map(|place| bytes(place)).collect();
        json!({"written": self.written, "path": bytes(&self.path), "places": places})
    }

    /// As the exporter file writes it.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// The chosen place.
    pub fn as_path(&self) -> &Path {
        &self.path
    }

    /// Returns the first of its candidates that exists now. Uses the file system, and so may block.
    ///
    /// # Errors
    /// `NotFound`, with the candidates.
    pub fn find(&self) -> Result<PathBuf> {
        let mut places = self.places.iter().chain(self.places.is_empty().then_some(&self.path));
        let found = places.find(|place| std::fs::symlink_metadata(place).is_ok());
        found.cloned().ok_or_else(|| {
            let error = Error::not_found(format!("there is no `{}`", self.written));
            // For an absolute path the message already says everything.
            match self.places.is_empty() && self.path.as_os_str() == self.written.as_str() {
                true => error,
                false => error.with_hint(self.looked_for()),
            }
        })
    }

    /// As [`HostPath::find`], for code that must not block; if nothing exists, the chosen place.
    pub async fn located(&self) -> PathBuf {
        if self.places.len() < 2 {
            return self.path.clone();
        }
        let path = self.clone();
        let found = tokio::task::spawn_blocking(move || path.find().ok()).await;
        found.ok().flatten().unwrap_or_else(|| self.path.clone())
    }

    /// "looked for `/lab/disk.img` and `/home/me/disk.img`"
    pub fn looked_for(&self) -> String {
        let places = self.places.iter().map(PathBuf::as_path);
        let places = places.chain(self.places.is_empty().then_some(self.as_path()));
        let places: Vec<String> = places.map(|place| place.display().to_string()).collect();
        format!("looked for {}", suggest::list(places.iter().map(String::as_str)))
    }
}

impl FromStr for HostPath {
    type Err = Error;

    /// `InvalidArgument` for empty text, a NUL in it, and another user's home.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: String, hint: &str| {
            Err(Error::invalid_argument(format!(
                "`{}` is not a path: {why}",
                text.escape_default()
            ))
            .with_hint(hint.to_owned()))
        };
        if text.is_empty() || text.contains('\0') {
            return wrong("it is empty or has a NUL in it".into(), "name a file");
        }
        let path = match text
            .strip_prefix('~')
            .map(|rest| rest.split_at(rest.find('/').unwrap_or(rest.len())))
        {
            Some(("", rest)) => match std::env::var_os("HOME").filter(|home| !home.is_empty()) {
                Some(home) => match rest.trim_start_matches('/') {
                    "" => PathBuf::from(home),
                    rest => Path::new(&home).join(rest),
                },
                None => {
                    return wrong(
                        "`~` is the home, and HOME is not set".into(),
                        "write the whole path",
                    );
                }
            },
            Some((user, _)) => {
                let why = format!("the home of `{user}` is not looked up");
                return wrong(
                    why,
                    "write the whole path; a file whose name begins with `~` is `./~NAME`",
                );
            }
            None => PathBuf::from(text),
        };
        Ok(Self { written: text.to_owned(), path, places: Vec::new() })
    }
}

impl From<PathBuf> for HostPath {
    /// The path as it is.
    fn from(path: PathBuf) -> Self {
        Self { written: path.display().to_string(), path, places: Vec::new() }
    }
}

macro_rules! as_it_is {
    ($($path:ty),*) => {$(
        impl From<$path> for HostPath {
            /// The path as it is.
            fn from(path: $path) -> Self {
                PathBuf::from(path).into()
            }
        }
    )*};
}
as_it_is!(&Path, &PathBuf, &str, String);

impl From<HostPath> for PathBuf {
    fn from(path: HostPath) -> Self {
        path.path
    }
}

impl Deref for HostPath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for HostPath {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for HostPath {
    /// Prints the chosen place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

impl<'de> Deserialize<'de> for HostPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a path")]
        enum Form {
            Text(String),
            Decided { written: String, path: Vec<u8>, places: Vec<Vec<u8>> },
        }
        let path = |bytes: Vec<u8>| PathBuf::from(OsString::from_vec(bytes));
        match Form::deserialize(deserializer)? {
            Form::Text(text) => {
                text.parse().map_err(|error: Error| de::Error::custom(error.report()))
            }
            Form::Decided { written, path: decided, places } => Ok(Self {
                written,
                path: path(decided),
                places: places.into_iter().map(path).collect(),
            }),
        }
    }
}

impl JsonSchema for HostPath {
    fn schema_name() -> Cow<'static, str> {
        "HostPath".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A path of the exporter's machine. A relative one is looked for in the folder of the exporter \
                            file, then in the working directory; `~/` is the home.",
            "type": "string",
            "format": Self::FORMAT,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder for the exporter file and one for the working directory.
    fn folders() -> (tempfile::TempDir, Vec<PathBuf>, PathBuf, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let [file, work] = ["file", "work"].map(|name| root.path().join(name));
        for folder in [&file, &work] {
            std::fs::create_dir(folder).unwrap();
        }
        (root, vec![file.clone(), work.clone()], file, work)
    }

    fn read(bases: &[PathBuf], text: &str) -> HostPath {
        let value = HostPath::in_folders(text, bases).unwrap().to_value();
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_folder_of_the_file_comes_first() {
        let (_root, bases, file, work) = folders();
        let path = read(&bases, "disk.img");
        assert_eq!((path.as_path(), path.written()), (file.join("disk.img").as_path(), "disk.img"));
        let error = path.find().unwrap_err().report();
        let [here, there] =
            [&file, &work].map(|folder| folder.join("disk.img").display().to_string());
        assert!(
            error.contains(&here) && error.contains(&there) && error.contains("`disk.img`"),
            "{error}"
        );
        // A file that appears later is found later.
        std::fs::write(work.join("disk.img"), "").unwrap();
        assert_eq!(path.find().unwrap(), work.join("disk.img"));
        assert_eq!(read(&bases, "disk.img").as_path(), work.join("disk.img"));
        std::fs::write(file.join("disk.img"), "").unwrap();
        assert_eq!(read(&bases, "disk.img").as_path(), file.join("disk.img"));
        assert_eq!(path.find().unwrap(), file.join("disk.img"));
    }

    #[test]
    fn a_link_that_leads_nowhere_is_there() {
        let (_root, bases, _, work) = folders();
        std::os::unix::fs::symlink("/nowhere", work.join("link")).unwrap();
        assert_eq!(read(&bases, "link").as_path(), work.join("link"));
    }

    #[test]
    fn folders_that_are_not_text() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(OsString::from_vec(b"fol\xffder".to_vec()));
        let path = read(std::slice::from_ref(&folder), "x");
        assert_eq!(path.as_path(), folder.join("x"));
    }

    #[test]
    fn absolute_paths_and_homes() {
        let (_root, bases, ..) = folders();
        assert_eq!(HostPath::in_folders("/dev/null", &bases).unwrap().to_value(), "/dev/null");
        assert_eq!(read(&bases, "/dev/null").find().unwrap(), Path::new("/dev/null"));
        let home = PathBuf::from(std::env::var_os("HOME").unwrap());
        assert_eq!(read(&bases, "~/a/b").as_path(), home.join("a/b"));
        assert_eq!(read(&bases, "/no/where").find().unwrap_err().hint(), None);
        let hint = read(&bases, "~/no/where").find().unwrap_err().hint().map(str::to_owned);
        assert_eq!(hint, Some(format!("looked for `{}`", home.join("no/where").display())));
        assert_eq!(read(&bases, "~").as_path(), home);
        assert_eq!(read(&bases, "./~x").as_path().file_name(), Some("~x".as_ref()));
        for (wrong, why) in
            [("~root/x", "`root`"), ("~x", "`./~NAME`"), ("", "empty"), ("a\0b", "NUL")]
        {
            let error = HostPath::in_folders(wrong, &bases).unwrap_err().report();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
