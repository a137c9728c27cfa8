//! A Unix socket that is created again if another program removes it, as cleaners of temporary
//! folders do.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jumpstarter_driver_core::{ErrorKind, Result, ResultExt, blocking};
use jumpstarter_files::SocketFile;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex as AsyncMutex, mpsc};

/// How often a served socket is checked.
const INTERVAL: Duration = Duration::from_secs(1);

/// Accepts on the newest socket. Dropping it removes the socket.
#[derive(Debug)]
pub(crate) struct KeptListener {
    current: UnixListener,
    renewed: mpsc::UnboundedReceiver<UnixListener>,
    keeper: SocketKeeper,
}

/// Checks that the socket of a [`Listener`](crate::Listener) still exists. Clones share it.
#[derive(Clone, Debug)]
pub struct SocketKeeper(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    /// `None` once the listener is dropped.
    file: Mutex<Option<SocketFile>>,
    /// One renewal at a time.
    turn: AsyncMutex<()>,
    renewed: mpsc::UnboundedSender<UnixListener>,
}

impl Kept {
    fn file(&self) -> MutexGuard<'_, Option<SocketFile>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn listen(path: &Path) -> Result<(UnixListener, SocketFile)> {
    let (doing, path) = (format!("listening at unix://{}", path.display()), path.to_owned());
    let listening = blocking(move || Ok(SocketFile::listen(&path)?)).await.map_err(|error| {
        let is_taken = error.kind() == ErrorKind::AlreadyExists;
        let error = error.context(doing.clone());
        if is_taken { error.with_hint("stop that program, or choose another path") } else { error }
    });
    let (listener, file) = listening?;
    Ok((UnixListener::from_std(listener).context(doing)?, file))
}

impl KeptListener {
    pub(crate) async fn bind(path: &Path) -> Result<Self> {
        let (current, file) = listen(path).await?;
        let (sender, renewed) = mpsc::unbounded_channel();
        let keeper = SocketKeeper(Arc::new(Kept {
            path: path.to_owned(),
            file: Mutex::new(Some(file)),
            turn: AsyncMutex::default(),
            renewed: sender,
        }));
        Ok(Self { current, renewed, keeper })
    }

    pub(crate) fn keeper(&self) -> SocketKeeper {
        self.keeper.clone()
    }

    pub(crate) async fn accept(&mut self) -> std::io::Result<UnixStream> {
        loop {
            tokio::select! {
                biased;
                // Connections to the removed socket come first.
                accepted = self.current.accept() => return accepted.map(|(stream, _)| stream),
                Some(renewed) = self.renewed.recv() => self.current = renewed,
            }
        }
    }
}

impl Drop for KeptListener {
    fn drop(&mut self) {
        self.keeper.0.file().take();
    }
}

impl SocketKeeper {
    /// Creates the socket again if it is missing. Without effect once its listener is dropped.
    ///
    /// # Errors
    /// As [`Listener::bind`](crate::Listener::bind).
    pub async fn ensure(&self) -> Result<()> {
        let _turn = self.0.turn.lock().await;
        let Some(place) = self.0.file().as_ref().map(|file| file.place().clone()) else {
            return Ok(());
        };
        if blocking(move || Ok(place.is_there())).await? {
            return Ok(());
        }
        let (listener, file) = listen(&self.0.path).await?;
        let mut kept = self.0.file();
        if kept.is_some() && self.0.renewed.send(listener).is_ok() {
            *kept = Some(file);
            let path = self.0.path.display();
            tracing::warn!(%path, "another program removed a socket; it was made again");
        }
        Ok(())
    }

    /// Checks it repeatedly. A failure is logged once, until the socket exists again.
    pub(crate) async fn keep(self) -> Infallible {
        let mut has_failed = false;
        loop {
            tokio::time::sleep(INTERVAL).await;
            match self.ensure().await {
                Ok(()) => has_failed = false,
                Err(error) if !std::mem::replace(&mut has_failed, true) => {
                    let (path, error) = (self.0.path.display(), error.report());
                    tracing::warn!(%path, error, "a socket was removed, and cannot be made again");
                }
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_removed_socket_is_made_again_and_those_who_reached_the_old_one_are_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let mut listener = KeptListener::bind(&path).await.unwrap();
        let keeper = listener.keeper();
        let _old = UnixStream::connect(&path).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        keeper.ensure().await.unwrap();
        keeper.ensure().await.unwrap();
        let _new = UnixStream::connect(&path).await.unwrap();
        for _ in 0..2 {
            listener.accept().await.unwrap();
        }
        drop(listener);
        jumpstarter_files::finish_removals(std::time::Duration::from_secs(60));
        keeper.ensure().await.unwrap();
        assert!(!path.exists(), "it goes with its listener");
    }

    #[tokio::test]
    async fn another_programs_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = KeptListener::bind(&path).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let failed = listener.keeper().ensure().await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::AlreadyExists);
        drop(listener);
        jumpstarter_files::finish_removals(std::time::Duration::from_secs(60));
        assert!(path.exists(), "it is the other program's");
        drop(other);
    }
}
