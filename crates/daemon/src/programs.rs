//! Where commands and hooks find `j`.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// The PATH for a command that may call `j`: this process's own, and where that has no `j`, at its
/// end the folder of the program that runs. None when there is nothing to add.
pub fn search_path() -> Option<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folder = env::current_exe().ok()?.parent()?.to_owned();
    with_j(&path, folder)
}

fn with_j(path: &OsString, own: PathBuf) -> Option<OsString> {
    let mut folders: Vec<PathBuf> = env::split_paths(path).collect();
    if folders.iter().any(|folder| has_j(folder)) || !has_j(&own) {
        return None;
    }
    folders.push(own);
    env::join_paths(folders).ok()
}

fn has_j(folder: &Path) -> bool {
    let file = folder.join("j");
    file.is_file() && access(&file, Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_own_folder_comes_last_and_only_where_there_is_no_other() {
        let folder = || {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("j"), "").unwrap();
            std::fs::set_permissions(folder.path().join("j"), Permissions::from_mode(0o755))
                .unwrap();
            folder
        };
        let (own, other, empty) = (folder(), folder(), tempfile::tempdir().unwrap());
        let path = |folders: &[&Path]| env::join_paths(folders).unwrap();
        let own_path = || own.path().to_owned();
        assert_eq!(
            with_j(&path(&[empty.path()]), own_path()),
            Some(path(&[empty.path(), own.path()]))
        );
        assert_eq!(with_j(&path(&[empty.path(), other.path()]), own_path()), None);
        assert_eq!(with_j(&path(&[other.path()]), empty.path().to_owned()), None);
        // What nobody may run is none.
        std::fs::set_permissions(other.path().join("j"), Permissions::from_mode(0o644)).unwrap();
        assert!(with_j(&path(&[other.path()]), own_path()).is_some());
    }
}
