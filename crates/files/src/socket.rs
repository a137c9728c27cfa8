//! Unix sockets with a path: private from their first moment, at their final place, removed with
//! their owner.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

use crate::context::Context;
use crate::destination::invalid;
use crate::removal;

/// The longest path of a socket, in bytes, without the NUL at its end: 107 on Linux, 103 on macOS.
pub(crate) const SOCKET_PATH_LIMIT: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

/// The paths of sockets that are being removed.
static REMOVING: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
static REMOVED: Condvar = Condvar::new();

/// The file of a Unix socket that listens. Dropping it removes the file, unless another one has its
/// path by now.
///
/// Dropping it waits for no file system: a thread removes the file, and the process's exit waits
/// for that thread. A [`listen`](Self::listen) at the same path waits for it, too.
#[derive(Debug)]
pub struct SocketFile {
    place: SocketPlace,
    removed: bool,
}

/// Where a socket is: to see later whether it is still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketPlace {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    /// Listens at `path`, non-blocking, with mode 0600. The socket of a program that has ended is
    /// replaced.
    ///
    /// The path is used as it is given: a short relative one works in a folder whose own path is
    /// too long.
    ///
    /// # Errors
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if another program listens there, or the
    /// path is not a socket. [`InvalidInput`](io::ErrorKind::InvalidInput) if the path is too long.
    /// Otherwise the errors of the file system. A failure leaves nothing behind.
    pub fn listen(path: &Path) -> io::Result<(UnixListener, Self)> {
        let length = path.as_os_str().as_bytes().len();
        if length > SOCKET_PATH_LIMIT {
            return Err(invalid(format!(
                "the path of a socket has at most {SOCKET_PATH_LIMIT} bytes, and this one has {length}; \
                 choose a shorter or a relative one"
            )));
        }
        let (address, socket) = (SocketAddrUnix::new(path)?, new_socket()?);
        wait_until_removed(path);
        remove_stale(path)?;
        // On Linux the file gets the mode of the socket, so it is private from its first moment.
        // Elsewhere this may be refused, and the mode is set below.
        fchmod(&socket, Mode::RUSR | Mode::WUSR).ok();
        match bind(&socket, &address) {
            Err(Errno::ADDRINUSE) => {
                return Err(taken("another program has begun to listen there"));
            }
            bound => bound?,
        }
        let place = SocketPlace { path: path.to_owned(), identity: identity(path)? };
        let file = Self { place, removed: false };
        if std::fs::symlink_metadata(path)?.mode() & 0o077 != 0 {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        }
        listen(&socket, BACKLOG)?;
        // A program that began at the same time may have taken a socket that does not listen yet
        // for an abandoned one.
        match file.place.is_there() {
            true => Ok((UnixListener::from(socket), file)),
            false => Err(taken("another program has begun to listen there")),
        }
    }

    /// Where it is.
    pub fn place(&self) -> &SocketPlace {
        &self.place
    }

    /// Removes the file here and now: what dropping does on another thread.
    pub fn remove(mut self) {
        self.removed = true;
        self.place.remove();
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if !self.removed {
            let removing = Removing::begin(self.place.clone());
            removal::later(move || removing.0.remove());
        }
    }
}

/// A socket that is being removed, until this is dropped.
struct Removing(SocketPlace);

impl Removing {
    fn begin(place: SocketPlace) -> Self {
        being_removed().push(place.path.clone());
        Self(place)
    }
}

impl Drop for Removing {
    fn drop(&mut self) {
        let mut removing = being_removed();
        if let Some(at) = removing.iter().position(|path| *path == self.0.path) {
            removing.swap_remove(at);
        }
        REMOVED.notify_all();
    }
}

fn being_removed() -> MutexGuard<'static, Vec<PathBuf>> {
    REMOVING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait_until_removed(path: &Path) {
    let mut removing = being_removed();
    while removing.iter().any(|other| other == path) {
        removing = REMOVED.wait(removing).unwrap_or_else(PoisonError::into_inner);
    }
}

impl SocketPlace {
    /// Whether the socket still has its path, so that it can be connected to.
    pub fn is_there(&self) -> bool {
        identity(&self.path).is_ok_and(|identity| identity == self.identity)
    }

    fn remove(&self) {
        if self.is_there()
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "a socket stays behind");
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

fn new_socket() -> io::Result<std::os::fd::OwnedFd> {
    #[cfg(target_os = "linux")]
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    #[cfg(not(target_os = "linux"))]
    let flags = SocketFlags::empty();
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    if !cfg!(target_os = "linux") {
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&socket, true)?;
    }
    Ok(socket)
}

/// Removes a socket that nobody listens at any more. Does not wait for one that has no room for
/// connections.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(taken("there is a file that is not a socket"));
        }
        Ok(_) => {}
    }
    match connect(&new_socket()?, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => std::fs::remove_file(path)
            .doing(|| "removing the socket of a program that has ended".to_owned()),
        Err(Errno::NOENT) => Ok(()),
        Err(Errno::ACCESS | Errno::PERM) => Err(taken("there is another user's socket")),
        Ok(()) | Err(_) => Err(taken("another program listens there")),
    }
}

fn taken(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn private_at_its_place_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let before = rustix::process::umask(Mode::empty());
        let (_listener, file) = SocketFile::listen(&path).unwrap();
        rustix::process::umask(before);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        assert_eq!(SocketFile::listen(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        let place = file.place().clone();
        assert!(place.is_there());
        drop(file);
        assert!(removal::finish_removals(std::time::Duration::from_secs(20)));
        assert!(!place.is_there());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_dead_program_left_is_replaced_and_other_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        let (_listener, file) = SocketFile::listen(&path).unwrap();
        // Another one at its path is not removed with it.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "mine").unwrap();
        drop(file);
        assert!(removal::finish_removals(std::time::Duration::from_secs(20)));
        assert_eq!(SocketFile::listen(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn one_without_room_for_connections_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let (socket, address) = (new_socket().unwrap(), SocketAddrUnix::new(&path).unwrap());
        bind(&socket, &address).unwrap();
        listen(&socket, 0).unwrap();
        let mut waiting = Vec::new();
        loop {
            let client = new_socket().unwrap();
            if connect(&client, &address).is_err() {
                break;
            }
            waiting.push(client);
        }
        assert_eq!(SocketFile::listen(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn the_next_one_at_a_path_waits_for_the_removal_of_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        for _ in 0..200 {
            let (listener, file) = SocketFile::listen(&path).unwrap();
            UnixStream::connect(&path).unwrap();
            drop((file, listener));
        }
        let (_listener, file) = SocketFile::listen(&path).unwrap();
        assert!(removal::finish_removals(std::time::Duration::from_secs(20)));
        assert!(file.place().is_there());
    }

    #[test]
    fn dropping_waits_for_no_file_call() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let (_listener, file) = SocketFile::listen(&path).unwrap();
        let thread = std::thread::current().id();
        let (resume, hang) = std::sync::mpsc::channel::<()>();
        // A removal that hangs, of a socket elsewhere.
        removal::later(move || {
            assert_ne!(std::thread::current().id(), thread);
            hang.recv().ok();
        });
        drop(file);
        // The one that was dropped does not wait for it either.
        wait_until_removed(&path);
        assert!(!path.exists());
        drop(resume);
    }

    /// The current folder is the process's: nextest gives each test one.
    #[test]
    fn a_short_path_works_in_a_deep_folder() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("x".repeat(200));
        std::fs::create_dir(&deep).unwrap();
        let before = std::env::current_dir().unwrap();
        std::env::set_current_dir(&deep).unwrap();
        let listening = SocketFile::listen(Path::new("s"));
        let connected = UnixStream::connect("s");
        std::env::set_current_dir(before).unwrap();
        listening.unwrap();
        connected.unwrap();
    }

    #[test]
    fn paths_up_to_the_systems_limit() {
        let folder = tempfile::tempdir().unwrap();
        for length in [90, 100, SOCKET_PATH_LIMIT] {
            let name = "x".repeat(length - folder.path().as_os_str().len() - 1);
            let path = folder.path().join(name);
            let (_listener, _file) = SocketFile::listen(&path).unwrap();
            UnixStream::connect(&path).unwrap();
        }
        let name = "x".repeat(SOCKET_PATH_LIMIT - folder.path().as_os_str().len());
        let error = SocketFile::listen(&folder.path().join(name)).unwrap_err();
        assert!(error.to_string().contains("at most 107 bytes, and this one has 108"), "{error}");
    }
}
