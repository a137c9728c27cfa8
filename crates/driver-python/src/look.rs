//! Whether the classes of hosted drivers are there: what `jmp check` asks Python, once.
//!
//! The answer is kept until the interpreter, one of the folders of its modules, or a module beside
//! the exporter file changes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jumpstarter_driver_core::Registry;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_files::StagedFile;
use jumpstarter_supervise::{Command, Input, Sink, run_blocking};
use serde_json::json;

use crate::interpreter::{self, install_hint, module_of};
use crate::server::{READ_SCRIPT, SCRIPT};

/// How the names of Jumpstarter's packages begin; each brings `jumpstarter`.
const PACKAGES: &str = "jumpstarter_driver_";
/// Importing the packages of a file may take so long.
const LIMIT: Duration = Duration::from_secs(120);
/// An answer is not longer.
const MAX_ANSWER: usize = 4 << 20;
/// What every driver in Python takes.
const EVERY: [&str; 6] =
    ["children", "description", "methods_description", "log_level", "uuid", "labels"];

/// What is known of a class.
#[derive(Debug)]
#[non_exhaustive]
pub enum Looked {
    /// It can be hosted; its fields, each with whether it has to be given.
    Found(BTreeMap<String, bool>),
    /// It cannot be hosted: why, and what to do about it.
    Missing {
        /// What is missing.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
}

impl Looked {
    /// What is wrong with a configuration that has these keys: fields that are missing, with what
    /// is said of each.
    pub fn missing_fields(&self, keys: &[String]) -> Vec<String> {
        let Self::Found(fields) = self else { return Vec::new() };
        let is_missing = |(name, required): &(&String, &bool)| **required && !keys.contains(name);
        fields.iter().filter(is_missing).map(|(name, _)| name.clone()).collect()
    }

    /// The keys that the class does not take, which Python passes over, each with what may be
    /// meant.
    pub fn unknown_fields<'a>(&self, keys: &'a [String]) -> Vec<(&'a str, Option<String>)> {
        let Self::Found(fields) = self else { return Vec::new() };
        if fields.is_empty() {
            return Vec::new();
        }
        let unknown = keys.iter().filter(|key| !fields.contains_key(*key));
        let own = || fields.keys().map(String::as_str).filter(|name| !EVERY.contains(name));
        let hint =
            |key: &str| suggest::nearest(key, own()).map(|near| format!("did you mean `{near}`?"));
        unknown.map(|key| (key.as_str(), hint(key))).collect()
    }
}

/// Looks for the classes with the interpreter that a file names, or that is chosen; `folder` is the
/// file's. Blocks, for some seconds where nothing is known yet.
///
/// # Errors
/// `NotFound` where there is no such interpreter; `Unavailable` where it does not answer.
pub fn look(named: Option<&str>, folder: Option<&Path>, classes: &[String]) -> Result<Vec<Looked>> {
    let python = interpreter::choose(named);
    let question = json!({
        "program": python.to_string_lossy(), "path": std::env::var("PYTHONPATH").ok(),
        "search": std::env::var("PATH").ok(), "folder": folder, "classes": classes,
    });
    let kept = Kept::place(&question);
    let answer = match kept.as_deref().and_then(|file| Kept::read(file, &question)) {
        Some(answer) => answer,
        None => {
            let answer = match ask(&python, folder, classes) {
                Err(error) if classes.len() > 1 && is_of_a_module(&error) => {
                    return Ok(classes.iter().map(|class| alone(named, folder, class)).collect());
                }
                answer => answer?,
            };
            // What is missing may be there the next time, without a trace in the places looked at.
            let is_whole = |answer: &serde_json::Value| {
                let all = answer["classes"].as_array();
                all.is_some_and(|all| all.iter().all(|one| one["fault"].is_null()))
            };
            if let Some(file) = kept.as_deref().filter(|_| is_whole(&answer)) {
                Kept::write(file, &question, &answer);
            }
            answer
        }
    };
    let version = answer["version"].as_str().unwrap_or_default();
    let all = answer["classes"].as_array().map_or(&[][..], Vec::as_slice);
    Ok(classes
        .iter()
        .zip(all)
        .map(|(class, found)| looked(&python, version, class, found))
        .collect())
}

/// Whether Python may have failed because of one of the modules.
fn is_of_a_module(error: &Error) -> bool {
    use ErrorKind::{DeadlineExceeded, NotFound, PermissionDenied};
    !matches!(error.kind(), NotFound | PermissionDenied | DeadlineExceeded)
}

/// Looks for one class, whose module may end Python.
fn alone(named: Option<&str>, folder: Option<&Path>, class: &String) -> Looked {
    match look(named, folder, std::slice::from_ref(class)) {
        Ok(looked) => looked.into_iter().next().unwrap_or_else(|| Looked::Found(BTreeMap::new())),
        Err(error) => Looked::Missing {
            message: format!("the module `{}` cannot be imported: {error:#}", module_of(class)),
            hint: error.hint().map(str::to_owned),
        },
    }
}

fn ask(python: &OsStr, folder: Option<&Path>, classes: &[String]) -> Result<serde_json::Value> {
    let command = Command::new(python)
        .args(["-c", READ_SCRIPT, "look"])
        .arg(folder.unwrap_or(Path::new("")))
        .args(classes)
        .stdin(Input::Bytes(SCRIPT.as_bytes().to_vec()))
        .stdout(Sink::Tail(MAX_ANSWER))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .install_hint(interpreter::HINT);
    let output = run_blocking(command, LIMIT)?;
    serde_json::from_slice(&output.stdout).map_err(|error| {
        Error::unavailable(format!("{} does not answer as Python does", python.display()))
            .with_source(error)
            .with_hint(interpreter::HINT)
    })
}

fn looked(python: &OsStr, version: &str, class: &str, found: &serde_json::Value) -> Looked {
    let text = found["text"].as_str().unwrap_or_default();
    let (module, name) = (module_of(class), class.rsplit('.').next().unwrap_or(class));
    let classes: Vec<&str> =
        found["classes"].as_array().into_iter().flatten().filter_map(|one| one.as_str()).collect();
    let missing = |message: String, hint: Option<String>| Looked::Missing { message, hint };
    match found["fault"].as_str() {
        None => {
            let fields = found["fields"].as_object().into_iter().flatten();
            Looked::Found(
                fields
                    .map(|(name, required)| (name.clone(), required.as_bool() == Some(true)))
                    .collect(),
            )
        }
        Some("python") => missing(
            format!("{} is Python {version}; drivers in Python need 3.11", python.display()),
            Some(interpreter::HINT.to_owned()),
        ),
        Some("jumpstarter") => missing(
            format!("{} lacks Jumpstarter's packages: {text}", python.display()),
            Some(install_hint(
                python,
                if class.starts_with(PACKAGES) { class } else { "jumpstarter" },
            )),
        ),
        Some("package") => {
            let nowhere = match Registry::linked().find(class) {
                Ok(_) => format!("`{class}` is not in"),
                Err(_) => format!("there is no driver `{class}` in this program, nor in"),
            };
            let message = format!("{nowhere} {}: {text}", python.display());
            missing(message, Some(install_hint(python, class)))
        }
        Some("class") => missing(
            format!("the module `{module}` has no class `{name}`"),
            Some(suggest::hint(name, classes)),
        ),
        Some("driver") => missing(
            format!("`{class}` is not a driver"),
            Some(format!("the drivers of the module are {}", suggest::list(classes))),
        ),
        Some(_) => missing(
            format!("the module `{module}` cannot be imported: {text}"),
            found["missing"].as_str().map(|missing| install_hint(python, missing)),
        ),
    }
}

/// An answer in the user's cache.
struct Kept;

impl Kept {
    /// The file for a question; none without a home.
    fn place(question: &serde_json::Value) -> Option<PathBuf> {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let cache = from("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| from("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
        let mut hasher = DefaultHasher::new();
        question.to_string().hash(&mut hasher);
        Some(cache.join("jumpstarter/python").join(format!("{:016x}.json", hasher.finish())))
    }

    /// The answer, unless something that it rests on has changed.
    fn read(file: &Path, question: &serde_json::Value) -> Option<serde_json::Value> {
        let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
        let stamps = kept["stamps"].as_object()?;
        let is_same =
            |(path, stamp): (&String, &serde_json::Value)| *stamp == stamp_of(path, question);
        let is_valid = kept["question"] == *question && stamps.iter().all(is_same);
        is_valid.then(|| kept["answer"].clone())
    }

    fn write(file: &Path, question: &serde_json::Value, answer: &serde_json::Value) {
        let places = answer["places"].as_array().into_iter().flatten();
        let places = places.filter_map(|place| place.as_str().map(str::to_owned));
        let stamps: serde_json::Map<String, serde_json::Value> =
            places.map(|place| (place.clone(), stamp_of(&place, question))).collect();
        let text = json!({"question": question, "stamps": stamps, "answer": answer}).to_string();
        let write = || {
            if let Some(folder) = file.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let staged = StagedFile::create(file)?;
            staged.file().write_all(text.as_bytes())?;
            staged.commit()
        };
        if let Err(error) = write() {
            // Python is asked again then.
            tracing::debug!(%error, "what Python said is not kept");
        }
    }
}

/// When it was last changed; null where there is nothing. Of the folder of an exporter file, its
/// modules count only: other files come and go there.
fn stamp_of(path: &str, question: &serde_json::Value) -> serde_json::Value {
    if question["folder"] == path {
        return modules_in(Path::new(path)).into();
    }
    changed(Path::new(path)).map_or(serde_json::Value::Null, Into::into)
}

fn changed(path: &Path) -> Option<String> {
    let changed = std::fs::metadata(path).and_then(|data| data.modified()).ok()?;
    let since = changed.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(since.as_nanos().to_string())
}

/// The modules and packages of a folder, each with the time of its last change.
fn modules_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let module = |entry: std::fs::DirEntry| {
        let path = entry.path();
        let is_module = path.extension().is_some_and(|extension| extension == "py");
        let file = if is_module { path } else { path.join("__init__.py") };
        Some(format!("{} {}", file.display(), changed(&file)?))
    };
    let mut modules: Vec<String> = entries.filter_map(module).collect();
    modules.sort_unstable();
    modules
}
