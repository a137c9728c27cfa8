//! The folders of a user's configuration, and the files in them that have an alias.

use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jumpstarter_driver_core::{Error, Result, ResultExt};

/// The folder of this user's configuration: `$JMP_CLIENT_CONFIG_HOME`, else
/// `$XDG_CONFIG_HOME/jumpstarter`, else `~/.config/jumpstarter`.
///
/// # Errors
/// `FailedPrecondition` if none of the variables (nor `HOME`) is set.
pub fn user_folder() -> Result<PathBuf> {
    let from = |variable: &str| {
        std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
    };
    from("JMP_CLIENT_CONFIG_HOME")
        .or_else(|| from("XDG_CONFIG_HOME").map(|home| home.join("jumpstarter")))
        .or_else(|| from("HOME").map(|home| home.join(".config/jumpstarter")))
        .ok_or_else(|| {
            Error::failed_precondition("this user has no folder for configuration")
                .with_hint("set HOME, or JMP_CLIENT_CONFIG_HOME to a folder")
        })
}

/// The name of an alias's file in its folder. `kind` is what the alias names, for the error.
pub(super) fn file_name(kind: &str, alias: &str) -> Result<String> {
    if alias.is_empty() || alias.starts_with('.') || alias.contains(['/', '\\', '\0']) {
        let article = if kind.starts_with('e') { "an" } else { "a" };
        let error =
            Error::invalid_argument(format!("`{alias}` is not the name of {article} {kind}"));
        return Err(error.with_hint(
            "a name becomes a file's name: no `/` and no `\\`, and no `.` at its beginning",
        ));
    }
    Ok(format!("{alias}.yaml"))
}

/// The alias and the path of each file in `folder` that has an alias, sorted by alias; none if
/// there is no such folder.
///
/// # Errors
/// The errors of reading the folder.
pub fn files_with_alias(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(alias) = name.and_then(|name| name.strip_suffix(".yaml"))
            && file_name("file", alias).is_ok()
            && path.is_file()
        {
            files.push((alias.to_owned(), path));
        }
    }
    files.sort();
    Ok(files)
}

/// Makes a folder, and its parents, that only this user can read. An existing one becomes private,
/// since other programs create it readable for everybody.
///
/// # Errors
/// The errors of the file system.
pub fn make_private(folder: &Path) -> Result<()> {
    let making = || format!("making the folder {}", folder.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(making)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).with_context(making)
}
