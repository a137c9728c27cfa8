//! Links and names of all kinds, in a folder beside a secret.

use std::io::{Read, Write};
use std::os::unix::fs::symlink;

use super::*;

fn inner(path: &str) -> InnerPath {
    InnerPath::new(path).unwrap()
}

fn put(folder: &ConfinedFolder, path: &str, text: &str) -> io::Result<()> {
    let file = folder.write(&inner(path))?;
    file.file().write_all(text.as_bytes())?;
    file.commit()
}

fn text(folder: &ConfinedFolder, path: &str) -> io::Result<String> {
    let mut text = String::new();
    folder.read(&inner(path))?.read_to_string(&mut text)?;
    Ok(text)
}

/// A folder, and beside it one with a secret that links in the first lead to.
fn with_links_outside() -> (tempfile::TempDir, ConfinedFolder) {
    let all = tempfile::tempdir().unwrap();
    let outside = all.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "secret").unwrap();
    let folder = ConfinedFolder::create(all.path().join("root/folder")).unwrap();
    for (link, target) in [
        ("file", outside.join("secret")),
        ("folder", outside.clone()),
        ("relative", "../../outside/secret".into()),
        ("above", "../..".into()),
        ("magic", "/proc/self/root".into()),
        ("new", outside.join("new")),
        ("hop", "file".into()),
    ] {
        symlink(target, folder.place().join(link)).unwrap();
    }
    (all, folder)
}

#[test]
fn no_link_leads_outside() {
    let (all, folder) = with_links_outside();
    put(&folder, "own", "own").unwrap();
    let outside = ["file", "relative", "hop", "folder/secret", "above/outside/secret", "magic/etc"];
    for path in outside.into_iter().chain(["new"]) {
        let denied = |result: io::Result<()>, doing: &str| {
            let error = result.expect_err(&format!("{doing} {path} worked"));
            let expected = io::ErrorKind::PermissionDenied;
            assert_eq!(error.kind(), expected, "{doing} {path}: {error}");
        };
        if path != "new" {
            denied(folder.read(&inner(path)).map(drop), "reading");
            denied(folder.metadata(&inner(path)).map(drop), "looking at");
            denied(folder.copy(&inner(path), &inner("copy")), "copying from");
        }
        denied(put(&folder, path, "overwritten"), "writing");
        denied(folder.copy(&inner("own"), &inner(path)), "copying to");
        let below = inner(&format!("{path}/below"));
        let error = folder.create_dir(&below).unwrap_err().kind();
        let kinds = [io::ErrorKind::PermissionDenied, io::ErrorKind::NotADirectory];
        assert!(kinds.contains(&error) || path == "new", "{path}: {error:?}");
    }
    for path in ["folder", "above", "magic"] {
        let error = folder.list(&inner(path)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{path}: {error}");
        let error = folder.rename(&inner("own"), &inner(&format!("{path}/x"))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{path}: {error}");
        let error = folder.delete(&inner(&format!("{path}/secret"))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{path}: {error}");
    }
    // The links themselves are removed, not what they lead to.
    for entry in folder.list(&inner("/")).unwrap() {
        assert_eq!(entry.kind == EntryKind::Other, entry.is_link, "{entry:?}");
    }
    folder.delete(&inner("file")).unwrap();
    folder.remove_all(&inner("folder")).unwrap();
    folder.remove_all(&inner("/")).unwrap();
    assert_eq!(folder.list(&inner("")).unwrap(), []);
    let outside: Vec<_> = std::fs::read_dir(all.path().join("outside")).unwrap().collect();
    assert_eq!(outside.len(), 1);
    assert_eq!(std::fs::read(all.path().join("outside/secret")).unwrap(), b"secret");
}

#[test]
fn links_inside_are_followed() {
    let all = tempfile::tempdir().unwrap();
    let folder = ConfinedFolder::open(all.path()).unwrap();
    put(&folder, "images/v1/kernel", "one").unwrap();
    symlink("images/v1", all.path().join("latest")).unwrap();
    symlink("latest/kernel", all.path().join("kernel")).unwrap();
    assert_eq!(text(&folder, "kernel").unwrap(), "one");
    put(&folder, "kernel", "two").unwrap();
    assert_eq!(text(&folder, "images/v1/kernel").unwrap(), "two");
    assert!(all.path().join("kernel").is_symlink());
    let names = folder.list(&inner("/")).unwrap();
    let names: Vec<_> = names.iter().map(|entry| (&*entry.name, entry.kind)).collect();
    let expected =
        [("images", EntryKind::Folder), ("kernel", EntryKind::File), ("latest", EntryKind::Folder)];
    assert_eq!(names, expected);
}

#[test]
fn a_file_appears_when_it_is_complete() {
    let all = tempfile::tempdir().unwrap();
    let folder = ConfinedFolder::open(all.path()).unwrap();
    put(&folder, "a/b", "old").unwrap();
    let file = folder.write(&inner("a/b")).unwrap();
    file.file().write_all(b"half").unwrap();
    assert_eq!(text(&folder, "a/b").unwrap(), "old");
    assert_eq!(folder.list(&inner("a/")).unwrap().len(), 1);
    drop(file);
    crate::finish_removals(std::time::Duration::from_secs(10));
    assert_eq!(std::fs::read_dir(all.path().join("a")).unwrap().count(), 1);
    assert_eq!(text(&folder, "a/b").unwrap(), "old");
}

#[test]
fn kinds_are_not_mixed_up() {
    let all = tempfile::tempdir().unwrap();
    let folder = ConfinedFolder::open(all.path()).unwrap();
    put(&folder, "file", "x").unwrap();
    assert!(folder.create_dir(&inner("a/b/c/")).unwrap());
    assert!(!folder.create_dir(&inner("a/b/c/")).unwrap());
    let kind = |error: io::Error| error.kind();
    assert_eq!(kind(folder.metadata(&inner("file/")).unwrap_err()), io::ErrorKind::NotFound);
    assert_eq!(kind(folder.read(&inner("a")).unwrap_err()), io::ErrorKind::IsADirectory);
    assert_eq!(kind(put(&folder, "a", "x").unwrap_err()), io::ErrorKind::IsADirectory);
    assert_eq!(kind(put(&folder, "", "x").unwrap_err()), io::ErrorKind::IsADirectory);
    let under = folder.create_dir(&inner("file/x")).unwrap_err();
    assert_eq!(kind(under), io::ErrorKind::NotADirectory);
    let full = folder.delete(&inner("a")).unwrap_err();
    assert_eq!(kind(full), io::ErrorKind::DirectoryNotEmpty);
    folder.delete(&inner("a/b/c")).unwrap();
    folder.delete(&inner("gone")).unwrap();
    folder.remove_all(&inner("gone/too")).unwrap();
    folder.rename(&inner("file"), &inner("new/place")).unwrap();
    folder.copy(&inner("new/place"), &inner("again")).unwrap();
    assert_eq!(text(&folder, "again").unwrap(), "x");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        all.path().join("pipe"),
        rustix::fs::FileType::Fifo,
        Mode::RUSR,
        0,
    )
    .unwrap();
    assert_eq!(kind(folder.read(&inner("pipe")).unwrap_err()), io::ErrorKind::InvalidInput);
}
