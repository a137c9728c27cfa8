//! Where commands and hooks find `j`.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use jumpstarter_driver_core::blocking;
use jumpstarter_files::RuntimeDir;
use rustix::fs::{Access, access};

/// A program with further drivers, which acts as `j` under that name.
static OWN: OnceLock<PathBuf> = OnceLock::new();
/// The folder with a link `j` to that program.
static LINK: Mutex<Option<RuntimeDir>> = Mutex::new(None);

/// Makes the running program the `j` of commands and hooks, before any other `j`: for a program
/// with further drivers, whose verbs the other one lacks. The program must act as `j` under that
/// name.
pub fn be_j() {
    if let Ok(program) = env::current_exe() {
        OWN.set(program).ok();
    }
}

/// The PATH for a command that may call `j`: this process's own, and without a `j` in it, the
/// folder of the running program at its end; after [`be_j`] first a folder in which `j` is that
/// program. `None` if nothing is to be added.
///
/// Looks at every folder of PATH, on a thread that may block.
pub async fn search_path() -> Option<OsString> {
    blocking(|| Ok(find_path())).await.ok().flatten()
}

fn find_path() -> Option<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let Some(program) = OWN.get() else {
        return with_j(&path, env::current_exe().ok()?.parent()?.to_owned());
    };
    match link(program) {
        Ok(folder) => env::join_paths([folder].into_iter().chain(env::split_paths(&path))).ok(),
        Err(error) => {
            tracing::warn!(%error, "commands and hooks do not find this program's `j`");
            None
        }
    }
}

/// A folder in which `j` is the program; it is removed when this process exits.
fn link(program: &Path) -> io::Result<PathBuf> {
    let mut held = LINK.lock().unwrap_or_else(PoisonError::into_inner);
    if held.is_none() {
        jumpstarter_supervise::at_exit(|| {
            let held = LINK.lock().map(|mut held| held.take());
            if let Ok(Some(Err(error))) = held.map(|folder| folder.map(RuntimeDir::close)) {
                tracing::debug!(%error, "the folder of `j` was not removed");
            }
        });
    }
    let folder = match held.take() {
        Some(folder) => folder,
        None => RuntimeDir::create("j")?,
    };
    // A cleaner of temporary folders may have removed it.
    folder.ensure()?;
    let j = folder.file("j");
    let path = folder.path().to_owned();
    *held = Some(folder);
    match std::os::unix::fs::symlink(program, j) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(path),
    }
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
    fn an_own_program_is_j_before_any_other() {
        be_j();
        let path = find_path().unwrap();
        let first = env::split_paths(&path).next().unwrap();
        assert_eq!(std::fs::read_link(first.join("j")).unwrap(), env::current_exe().unwrap());
        assert_eq!(find_path().unwrap(), path, "one folder serves all commands");
        std::fs::remove_file(first.join("j")).unwrap();
        std::fs::remove_dir(&first).unwrap();
        find_path().unwrap();
        assert!(first.join("j").exists(), "what a cleaner removed is made again");
    }

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
        // A file that nobody may execute is not a program.
        std::fs::set_permissions(other.path().join("j"), Permissions::from_mode(0o644)).unwrap();
        assert!(with_j(&path(&[other.path()]), own_path()).is_some());
    }
}
