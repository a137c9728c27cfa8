//! What a replaced file keeps, and what is refused before anything is written. Real files, users,
//! mounts and devices.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use jumpstarter_driver_testkit::{FuseMount, skip};
use jumpstarter_files::{Opened, StagedFile, Target, Turn};
use rustix::fs::{XattrFlags, getxattr, setxattr};

const NOBODY: u32 = 65534;
const ACCESS_LIST: &str = "system.posix_acl_access";

/// A folder that every user may look into.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    folder
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let staged = StagedFile::create(path)?;
    staged.file().write_all(content)?;
    staged.commit()
}

/// Writes as a dump does; returns why it was written in place, if it was.
fn dump(path: &Path, content: &[u8]) -> io::Result<Option<String>> {
    match Target::open(path, None)? {
        Opened::Target(mut target) => {
            let why = target.in_place().map(str::to_owned);
            target.write(content)?;
            assert!(target.commit(&Turn::default())?);
            Ok(why)
        }
        Opened::Pipe(mut pipe) => pipe.write_all(content).map(|()| None),
        Opened::NoReader => panic!("nobody reads"),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn siblings(path: &Path) -> Vec<String> {
    let names = fs::read_dir(path.parent().unwrap()).unwrap();
    let mut names: Vec<_> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".partial"));
    names
}

/// Runs `work` on a thread that belongs to another user, in no other group. Root may do everything,
/// and shows nothing.
fn as_user<T: Send>(user: u32, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
            let (group, owner) = (rustix::fs::Gid::from_raw(user), rustix::fs::Uid::from_raw(user));
            set_thread_groups(&[]).unwrap();
            set_thread_res_gid(group, group, group).unwrap();
            set_thread_res_uid(owner, owner, owner).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        skip("it changes users, which takes root");
    }
    is_root
}

/// An access list as the kernel keeps it: user rw, one user rw, group nothing, mask rw, others
/// nothing.
fn access_list(user: u32) -> Vec<u8> {
    const UNDEFINED: u32 = u32::MAX;
    let entries: [(u16, u16, u32); 5] = [
        (0x01, 6, UNDEFINED),
        (0x02, 6, user),
        (0x04, 0, UNDEFINED),
        (0x10, 6, UNDEFINED),
        (0x20, 0, UNDEFINED),
    ];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(
            tag.to_le_bytes().iter().chain(&permissions.to_le_bytes()).chain(&id.to_le_bytes()),
        );
    }
    bytes
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1000];
    let length = getxattr(path, name, &mut value).ok()?;
    value.truncate(length);
    Some(value)
}

#[test]
fn the_umask_says_who_may_read_a_new_file() {
    let folder = folder();
    // The umask belongs to the process: only one test may change it, and nextest gives each a
    // process.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    replace(&folder.path().join("replaced"), b"x").unwrap();
    dump(&folder.path().join("dumped"), b"x").unwrap();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o002));
    dump(&folder.path().join("shared"), b"x").unwrap();
    rustix::process::umask(before);
    assert_eq!(mode(&folder.path().join("replaced")), 0o600);
    assert_eq!(mode(&folder.path().join("dumped")), 0o600);
    assert_eq!(mode(&folder.path().join("shared")), 0o664);
}

#[test]
fn it_is_private_until_it_is_complete() {
    let folder = folder();
    let path = folder.path().join("image");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
    for path in [path, folder.path().join("new")] {
        let staged = StagedFile::create(&path).unwrap();
        assert_eq!(staged.file().metadata().unwrap().mode() & 0o777, 0o600);
        staged.discard();
        assert_eq!(siblings(&path), [""; 0]);
    }
}

#[test]
fn rights_that_the_old_content_had_do_not_pass_to_the_new_one() {
    let folder = folder();
    let path = folder.path().join("tool");
    fs::write(&path, "old").unwrap();
    for set_ids in [0o4755, 0o2755, 0o6755] {
        fs::set_permissions(&path, Permissions::from_mode(set_ids)).unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o755, "{set_ids:o}");
    }
}

#[test]
fn access_lists_labels_and_attributes_survive() {
    let folder = folder();
    let path = folder.path().join("image");
    fs::write(&path, "old").unwrap();
    if let Err(error) = setxattr(&path, ACCESS_LIST, &access_list(NOBODY), XattrFlags::empty()) {
        return skip(&format!("the temporary folder's file system has no access lists: {error}"));
    }
    let named: &[(&str, &[u8])] = &[("user.comment", b"a label"), ("security.label", b"a \0 b")];
    let format = "user.jumpstarter.disk-format";
    setxattr(&path, format, b"raw", XattrFlags::empty()).unwrap();
    let named = if rustix::process::geteuid().is_root() { named } else { &named[..1] };
    for (name, value) in named {
        setxattr(&path, *name, value, XattrFlags::empty()).unwrap();
    }
    let (list, before) = (attribute(&path, ACCESS_LIST).unwrap(), mode(&path));
    assert_eq!(before, 0o660, "the mask stands for the group");
    for write in [replace, |path: &Path, content: &[u8]| dump(path, content).map(drop)] {
        write(&path, b"new").unwrap();
        assert_eq!(attribute(&path, format), None, "it was the old content's");
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(mode(&path), before);
        assert_eq!(
            attribute(&path, ACCESS_LIST),
            Some(list.clone()),
            "the group gets what the mask allows"
        );
        for (name, value) in named {
            assert_eq!(attribute(&path, name).as_deref(), Some(*value), "{name}");
        }
    }
}

#[test]
fn a_folders_default_list_does_not_open_a_file_that_had_none() {
    let folder = folder();
    let path = folder.path().join("image");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    if setxattr(
        folder.path(),
        "system.posix_acl_default",
        &access_list(NOBODY),
        XattrFlags::empty(),
    )
    .is_err()
    {
        return skip("the temporary folder's file system has no access lists");
    }
    replace(&path, b"new").unwrap();
    assert_eq!(attribute(&path, ACCESS_LIST), None);
    assert_eq!(mode(&path), 0o640);
    // A new file is what the folder makes of it.
    let new = folder.path().join("new");
    replace(&new, b"new").unwrap();
    fs::write(folder.path().join("like"), "").unwrap();
    assert_eq!(attribute(&new, ACCESS_LIST), attribute(&folder.path().join("like"), ACCESS_LIST));
    assert!(attribute(&new, ACCESS_LIST).is_some());
}

#[test]
fn owners_and_groups_are_kept_where_they_can_be() {
    if !is_root() {
        return;
    }
    let folder = folder();
    let path = folder.path().join("image");
    fs::write(&path, "old").unwrap();
    chown(&path, Some(1234), Some(2345)).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o660)).unwrap();
    replace(&path, b"new").unwrap();
    let found = fs::metadata(&path).unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (1234, 2345, 0o660));
    // A user who cannot keep the group gives his own group nothing.
    as_user(NOBODY, || replace(&path, b"newer").unwrap());
    let found = fs::metadata(&path).unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (NOBODY, NOBODY, 0o600));
}

#[test]
fn a_folder_that_cannot_be_listed_is_no_obstacle() {
    if !is_root() {
        return;
    }
    let folder = folder();
    let dropbox = folder.path().join("dropbox");
    fs::create_dir(&dropbox).unwrap();
    chown(&dropbox, Some(NOBODY), Some(NOBODY)).unwrap();
    fs::set_permissions(&dropbox, Permissions::from_mode(0o300)).unwrap();
    as_user(NOBODY, || {
        fs::read_dir(&dropbox).unwrap_err();
        replace(&dropbox.join("image"), b"first").unwrap();
        replace(&dropbox.join("image"), b"second").unwrap();
        assert_eq!(dump(&dropbox.join("image"), b"third").unwrap(), None);
    });
    assert_eq!(fs::read(dropbox.join("image")).unwrap(), b"third");
}

#[test]
fn a_file_in_a_folder_of_others_is_refused_at_once_and_dumped_in_place() {
    if !is_root() {
        return;
    }
    let folder = folder();
    for (name, folder_mode) in [("read-only", 0o755), ("sticky", 0o1777)] {
        let place = folder.path().join(name);
        fs::create_dir(&place).unwrap();
        fs::set_permissions(&place, Permissions::from_mode(folder_mode)).unwrap();
        let path = place.join("image");
        fs::write(&path, "the old one").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        as_user(NOBODY, || {
            StagedFile::create(&path).expect_err(name);
            assert_eq!(fs::read(&path).unwrap(), b"the old one");
            assert!(dump(&path, b"new").unwrap().is_some(), "{name}: nothing is reported");
        });
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(siblings(&path), [""; 0]);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        as_user(NOBODY, || dump(&path, b"newer").expect_err(name));
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}

#[test]
fn names_up_to_the_systems_limit() {
    let folder = folder();
    for length in [1, 212, 238, 239, 240, 254, 255] {
        let path = folder.path().join("ä".repeat(length / 2) + &"x".repeat(length % 2));
        for content in ["first", "second"] {
            replace(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content, "{length}");
        }
        fs::remove_file(&path).unwrap();
    }
    let error = replace(&folder.path().join("x".repeat(256)), b"").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidFilename);
    let bytes = std::ffi::OsString::from(
        <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff\n=,"),
    );
    replace(&folder.path().join(&bytes), b"x").unwrap();
    assert_eq!(dump(&folder.path().join(&bytes), b"y").unwrap(), None);
    assert_eq!(fs::read(folder.path().join(&bytes)).unwrap(), b"y");
}

#[test]
fn a_mount_point_is_refused_at_once_and_dumped_in_place() {
    if !is_root() {
        return;
    }
    let folder = folder();
    let (path, source) = (folder.path().join("image"), folder.path().join("source"));
    fs::write(&path, "below").unwrap();
    fs::write(&source, "mounted").unwrap();
    if let Err(error) = rustix::mount::mount_bind(&source, &path) {
        return skip(&format!("nothing can be mounted here: {error}"));
    }
    let refused = StagedFile::create(&path).map(drop);
    let dumped = dump(&path, b"new");
    rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(refused.unwrap_err().to_string().contains("mount point"));
    assert!(dumped.unwrap().unwrap().contains("mount point"));
    assert_eq!(fs::read(&source).unwrap(), b"new");
    assert_eq!(fs::read(&path).unwrap(), b"below");
}

#[test]
fn holes_are_kept_and_old_content_does_not_show() {
    let folder = folder();
    let mut image = vec![0; 8 << 20];
    image[5 << 20] = 1;
    let path = folder.path().join("image");
    dump(&path, &image).unwrap();
    assert!(fs::read(&path).unwrap() == image);
    assert!(fs::metadata(&path).unwrap().blocks() * 512 < 1 << 20, "its holes are filled");
    fs::write(&path, vec![7; 9 << 20]).unwrap();
    if rustix::process::geteuid().is_root() {
        // In place.
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        as_user(NOBODY, || assert!(dump(&path, &image).unwrap().is_some()));
        assert!(fs::read(&path).unwrap() == image);
    }
}

#[test]
fn devices_take_what_they_are_given() {
    assert_eq!(dump(Path::new("/dev/null"), b"x").unwrap(), None);
    let error = dump(Path::new("/dev/full"), b"x").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    let folder = folder();
    assert_eq!(dump(folder.path(), b"x").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
    assert_eq!(
        dump(&folder.path().join("socket"), b"x").unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
}

#[test]
fn an_open_file_is_written_where_it_is() {
    use std::os::fd::AsRawFd;
    let folder = folder();
    let path = folder.path().join("image");
    let file = File::create(&path).unwrap();
    let why = dump(Path::new(&format!("/dev/fd/{}", file.as_raw_fd())), b"new").unwrap();
    assert!(why.is_some());
    assert_eq!(fs::metadata(&path).unwrap().ino(), file.metadata().unwrap().ino());
    assert_eq!(fs::read(&path).unwrap(), b"new");
}

/// Runs a tool, or says that it is not there.
fn tool(program: &str, arguments: &[&str]) -> Option<String> {
    let command = jumpstarter_supervise::Command::new(program).args(arguments);
    match jumpstarter_supervise::run_blocking(command, std::time::Duration::from_secs(30)) {
        Ok(output) => Some(output.stdout_text().trim().to_owned()),
        Err(error) => {
            skip(&error.to_string());
            None
        }
    }
}

#[test]
fn loop_devices_see_what_is_dumped_and_no_flash_that_they_would_miss() {
    if !is_root() {
        return;
    }
    let folder = folder();
    let path = folder.path().join("image");
    fs::write(&path, vec![b'o'; 1 << 20]).unwrap();
    let Some(device) = tool("losetup", &["--find", "--show", path.to_str().unwrap()]) else {
        return;
    };
    let device = Path::new(&device);
    let refused = StagedFile::create(&path).map(drop);
    let mut image = vec![b'n'; 1 << 20];
    image[4096..8192].fill(0);
    let dumped = dump(&path, &image);
    // A block device is a target, too, as long as the image fits.
    let written = dump(device, &vec![b'd'; 4096]);
    let too_large = Target::open(device, Some((1 << 20) + 1)).map(drop);
    let overflown = dump(device, &vec![b'x'; (1 << 20) + 1]);
    tool("losetup", &["--detach", device.to_str().unwrap()]);
    assert!(refused.unwrap_err().to_string().contains("a loop device uses it"));
    assert!(dumped.unwrap().unwrap().contains("a loop device uses it"));
    written.unwrap();
    assert_eq!(too_large.unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(overflown.unwrap_err().kind(), io::ErrorKind::StorageFull);
    image[..4096].fill(b'd');
    assert!(fs::read(&path).unwrap() == image, "the device went to another file");
}

#[test]
fn a_file_system_without_modes_is_written_to() {
    if !is_root() {
        return;
    }
    let folder = folder();
    let (behind, mounted) = (folder.path().join("behind"), folder.path().join("mounted"));
    fs::create_dir(&behind).unwrap();
    fs::create_dir(&mounted).unwrap();
    let mount = FuseMount::new(&behind, &mounted, &["--chmod-deny", "--chown-deny"]);
    let _mount = match mount {
        Ok(mount) => mount,
        Err(obstacle) => return skip(&obstacle),
    };
    let path = mounted.join("image");
    replace(&path, b"first").unwrap();
    replace(&path, b"second").unwrap();
    dump(&path, b"third").unwrap();
    assert_eq!(fs::read(behind.join("image")).unwrap(), b"third");
    assert_eq!(siblings(&behind.join("image")), [""; 0]);
}
