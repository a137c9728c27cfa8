//! Turns of programs that change a client's tokens.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use jumpstarter_driver_core::{Error, Result};

use super::client::ClientConfig;

/// How long another program may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The turn of one program. It ends when this is dropped.
#[derive(Debug)]
pub struct ClientLock {
    /// The folder of the file: the file itself is replaced by each change.
    _folder: Option<File>,
}

impl ClientConfig {
    /// Waits for the turn to change the tokens of the file at `path`, for at most a minute. It
    /// blocks the thread. File systems without locks have no turns.
    ///
    /// # Errors
    /// `Unavailable` if another program does not end its turn.
    pub fn lock(path: &Path) -> Result<ClientLock> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let Ok(folder) = File::open(folder.unwrap_or(Path::new("."))) else {
            return Ok(ClientLock { _folder: None });
        };
        match folder.try_lock() {
            Ok(()) => return Ok(ClientLock { _folder: Some(folder) }),
            Err(TryLockError::Error(_)) => return Ok(ClientLock { _folder: None }),
            Err(TryLockError::WouldBlock) => {}
        }
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let locked = folder.lock().is_ok().then_some(folder);
            // Too late, the turn ends here.
            sender.send(locked).ok();
        });
        match receiver.recv_timeout(LIMIT) {
            Ok(folder) => Ok(ClientLock { _folder: folder }),
            Err(_) => {
                let file = path.display();
                let message = format!("another program has been renewing the token in {file}");
                Err(Error::unavailable(message).with_hint("try again"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_follow_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("me.yaml");
        let first = ClientConfig::lock(&path).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            let _turn = ClientConfig::lock(&path).unwrap();
            sender.send(()).unwrap();
        });
        receiver.try_recv().unwrap_err();
        drop(first);
        receiver.recv().unwrap();
        other.join().unwrap();
    }
}
