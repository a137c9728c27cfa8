//! Private folders against what other programs do to them.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use super::*;
use crate::finish_removals;
use crate::sweep::open_folder;

const LIMIT: Duration = Duration::from_secs(20);

fn names(place: &Path) -> Vec<String> {
    fs::read_dir(place)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn make(place: &Path) -> RuntimeDir {
    RuntimeDir::create_in(&[place.to_owned()], "qemu").unwrap()
}

#[test]
fn private_and_gone_at_the_end() {
    let place = tempfile::tempdir().unwrap();
    let folder = make(place.path());
    let mode = fs::metadata(folder.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert!(names(folder.path()).is_empty());
    let _socket = UnixListener::bind(folder.file("a-socket-of-some-name")).unwrap();
    drop(folder);
    assert!(finish_removals(Duration::MAX));
    assert!(names(place.path()).is_empty());
    make(place.path()).close().unwrap();
    assert!(names(place.path()).is_empty());
}

#[test]
fn a_long_place_is_passed_over() {
    let place = tempfile::tempdir().unwrap();
    let long = place.path().join("x".repeat(100));
    fs::create_dir(&long).unwrap();
    let folder = RuntimeDir::create_in(&[long.clone(), place.path().to_owned()], "qemu").unwrap();
    assert_eq!(folder.path().parent(), Some(place.path()));
    UnixListener::bind(folder.file("12345678901234567890123")).unwrap();
    let error = RuntimeDir::create_in(&[long], "qemu").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("TMPDIR"));
    let error = RuntimeDir::create_in(&["/proc/nowhere".into()], "qemu").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_runtime_folder_is_used_only_if_it_is_there_and_ours() {
    let place = tempfile::tempdir().unwrap();
    assert!(is_usable(place.path()));
    assert!(!is_usable(&place.path().join("missing")));
    assert!(!is_usable(Path::new("relative")));
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(place.path(), Some(12345), None).unwrap();
        assert!(!is_usable(place.path()), "another user's");
    }
}

#[test]
fn what_is_abandoned_is_swept_and_the_rest_is_not() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let alive = make(place.path());
    fs::write(alive.file("image"), "x").unwrap();
    // As a process that was killed leaves it: the system releases its lock.
    fs::create_dir(at("jmp-qemu-killed")).unwrap();
    fs::write(at("jmp-qemu-killed/console.sock"), "").unwrap();
    fs::create_dir(at("jmp-qemu-new-making")).unwrap();
    fs::create_dir(at("another")).unwrap();
    fs::create_dir(at("jmp-exporter-killed")).unwrap();
    symlink(at("another"), at("jmp-qemu-link")).unwrap();
    let _second = make(place.path());
    assert!(alive.file("image").exists() && at("another").exists());
    assert!(at("jmp-qemu-new-making").exists() && at("jmp-qemu-link").exists());
    assert!(at("jmp-exporter-killed").exists(), "of another kind");
    assert!(!at("jmp-qemu-killed").exists());
}

#[test]
fn nothing_named_like_a_leftover_holds_up_the_next_owner() {
    let place = tempfile::tempdir().unwrap();
    let pipe = |path: &Path| {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    };
    pipe(&place.path().join("jmp-qemu-pipe"));
    fs::create_dir(place.path().join("jmp-qemu-folder")).unwrap();
    pipe(&place.path().join("jmp-qemu-folder/lock"));
    let path = place.path().to_owned();
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(make(&path)));
    let _folder = is_done.recv_timeout(LIMIT).expect("it waits for the other end of a pipe");
    assert!(place.path().join("jmp-qemu-pipe").exists(), "no folder");
    assert!(!place.path().join("jmp-qemu-folder").exists());
}

#[test]
fn files_that_are_removed_from_a_living_owner_do_not_make_it_abandoned() {
    let place = tempfile::tempdir().unwrap();
    let folder = make(place.path());
    for name in names(folder.path()) {
        fs::remove_file(folder.file(&name)).unwrap();
    }
    let _next = make(place.path());
    assert!(folder.path().exists(), "a living owner's folder was taken for an abandoned one");
}

#[test]
fn what_was_removed_is_made_again() {
    let place = tempfile::tempdir().unwrap();
    let folder = make(place.path());
    assert!(!folder.ensure().unwrap());
    fs::remove_dir_all(folder.path()).unwrap();
    assert!(folder.ensure().unwrap());
    assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
    let _next = make(place.path());
    assert!(folder.path().exists(), "the new folder is held, too");
    // Somebody else's folder at the same path is neither used nor removed.
    fs::remove_dir(folder.path()).unwrap();
    fs::create_dir(folder.path()).unwrap();
    fs::write(folder.file("theirs"), "").unwrap();
    assert_eq!(folder.ensure().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    let theirs = folder.file("theirs");
    folder.close().unwrap();
    assert!(theirs.exists());
}

#[test]
fn children_neither_keep_nor_lose_the_lock() {
    let place = tempfile::tempdir().unwrap();
    let folder = make(place.path());
    let command = jumpstarter_supervise::Command::new("sleep").args(["60"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let child = runtime.block_on(command.spawn()).unwrap();
    let is_locked = || open_folder(folder.path()).unwrap().try_lock().is_err();
    assert!(is_locked());
    // As the owner's end does, however it comes; the child goes on.
    drop(folder.held().take());
    assert!(!is_locked(), "a child keeps the lock of its parent");
    child.kill();
    runtime.block_on(child.wait_gone());
}

#[test]
fn files_that_appear_while_it_is_closed_do_not_keep_it() {
    let place = tempfile::tempdir().unwrap();
    for _ in 0..50 {
        let folder = make(place.path());
        let path = folder.path().to_owned();
        for number in 0..50 {
            fs::write(path.join(number.to_string()), "x").unwrap();
        }
        // As the last steps of writes that were cancelled: each makes one file.
        let late: Vec<_> = (50..54)
            .map(|number| {
                let path = path.join(number.to_string());
                std::thread::spawn(move || fs::write(path, "x").is_ok())
            })
            .collect();
        folder.close().unwrap();
        late.into_iter().for_each(|late| drop(late.join()));
        assert!(!path.exists());
    }
}
