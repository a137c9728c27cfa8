//! Which Python hosts drivers.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use jumpstarter_driver_core::prelude::*;

/// Names the interpreter, where the exporter file does not.
const VARIABLE: &str = "JMP_PYTHON";

/// The interpreter that an exporter file names, else that of `JMP_PYTHON`, else that of the active
/// virtual environment, else the one that started this program (such as pytest's) where it belongs
/// to a virtual environment, else `python3`.
pub(crate) fn choose(named: Option<&str>) -> OsString {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    choose_with(named, variable, starter)
}

/// The interpreter that started this program, if it belongs to a virtual environment.
fn starter() -> Option<OsString> {
    let parent = rustix::process::getppid()?;
    let line = std::fs::read(format!("/proc/{}/cmdline", parent.as_raw_nonzero())).ok()?;
    let program = PathBuf::from(OsString::from_vec(line.split(|byte| *byte == 0).next()?.to_vec()));
    let is_python = program.file_name()?.as_bytes().starts_with(b"python");
    let environment = program.parent()?.parent()?;
    (is_python && program.is_absolute() && environment.join("pyvenv.cfg").exists())
        .then(|| program.into_os_string())
}

fn choose_with(
    named: Option<&str>,
    variable: impl Fn(&str) -> Option<OsString>,
    starter: impl Fn() -> Option<OsString>,
) -> OsString {
    let of_environment = || {
        let folder = variable("VIRTUAL_ENV").map(PathBuf::from)?;
        Some(folder.join("bin/python").into_os_string())
    };
    named
        .map(OsString::from)
        .or_else(|| variable(VARIABLE))
        .or_else(of_environment)
        .or_else(starter)
        .unwrap_or_else(|| "python3".into())
}

/// What to do about an interpreter that is not there.
pub(crate) const HINT: &str = "install Python 3.11 or newer, or name it: `python:` beside `export:` in the file, or JMP_PYTHON";

/// The name of the package that has a module, as `pip` knows it.
pub(crate) fn package_of(import_path: &str) -> String {
    import_path.split('.').next().unwrap_or_default().replace('_', "-")
}

/// The module of a class.
pub(crate) fn module_of(import_path: &str) -> &str {
    import_path.rsplit_once('.').map_or(import_path, |(module, _)| module)
}

/// What to run to have the package of a class.
pub(crate) fn install_hint(python: &std::ffi::OsStr, import_path: &str) -> String {
    format!("{} -m pip install {}", python.display(), package_of(import_path))
}

/// The level of the log of hosted drivers: what this program logs, by Python's names.
pub(crate) fn log_level() -> &'static str {
    use tracing::level_filters::LevelFilter;
    match LevelFilter::current() {
        LevelFilter::TRACE | LevelFilter::DEBUG => "DEBUG",
        LevelFilter::INFO | LevelFilter::OFF => "INFO",
        LevelFilter::WARN => "WARNING",
        _ => "ERROR",
    }
}

/// The error of a hosted driver, by the kind that its process says.
pub(crate) fn error(kind: &str, message: String) -> Error {
    let kind = match kind {
        "not_found" => ErrorKind::NotFound,
        "unimplemented" => ErrorKind::Unimplemented,
        "invalid_argument" => ErrorKind::InvalidArgument,
        "deadline_exceeded" => ErrorKind::DeadlineExceeded,
        "permission_denied" => ErrorKind::PermissionDenied,
        "unavailable" => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_comes_first_then_the_variable_then_the_environment() {
        let all = |name: &str| match name {
            "JMP_PYTHON" => Some("/opt/python".into()),
            "VIRTUAL_ENV" => Some("/venv".into()),
            _ => None,
        };
        let environment = |name: &str| all(name).filter(|_| name == "VIRTUAL_ENV");
        assert_eq!(choose_with(Some("py"), all, || None), "py");
        assert_eq!(choose_with(None, all, || None), "/opt/python");
        assert_eq!(choose_with(None, environment, || Some("/py".into())), "/venv/bin/python");
        assert_eq!(choose_with(None, |_| None, || None), "python3");
        assert_eq!(choose_with(None, |_| None, || Some("/py".into())), "/py");
    }

    #[test]
    fn packages_and_modules_of_classes() {
        assert_eq!(package_of("jumpstarter_driver_shell.driver.Shell"), "jumpstarter-driver-shell");
        assert_eq!(
            module_of("jumpstarter_driver_shell.driver.Shell"),
            "jumpstarter_driver_shell.driver"
        );
    }
}
