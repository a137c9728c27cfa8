//! The cache folder: finished images, the packages they were made of, and a lock for who builds.
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempDir};

use super::{Arch, System, recipe};
use crate::process;
use crate::progress::note;

/// Names of temporary files and folders in the cache begin with this.
const TEMPORARY: &str = ".tmp-";
/// Images of an architecture that are kept: for other branches of the project.
const KEPT: usize = 3;

/// The folder: `$XDG_CACHE_HOME/jumpstarter/guests`, by default in `~/.cache`; without a home, in
/// `target`.
pub(crate) fn folder() -> Result<PathBuf> {
    let absolute =
        |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map_or_else(
            || crate::workspace::root().join("target/guest-cache"),
            |c| c.join("jumpstarter/guests"),
        );
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&folder)
        .with_context(|| format!("creating the cache folder {}", folder.display()))?;
    Ok(folder)
}

/// The image that the current recipe made last, if there is one. Takes no lock: images appear
/// whole.
pub(crate) fn lookup(folder: &Path, system: System, arch: Arch) -> Option<PathBuf> {
    let name = fs::read_to_string(pointer(folder, system, arch)).ok()?;
    let image = folder.join(name.trim());
    image.is_file().then_some(image)
}

/// The file that says which image the current recipe made last.
fn pointer(folder: &Path, system: System, arch: Arch) -> PathBuf {
    folder.join(format!("{}-{}.current", prefix(system, arch), &recipe::hash(system)[..16]))
}

/// How the names of a guest's files begin.
fn prefix(system: System, arch: Arch) -> String {
    format!("{}-{}", system.name(), arch.name())
}

/// The key of an image: recipe and exact packages.
pub(crate) fn key(system: System, manifest: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(recipe::hash(system));
    hasher.update(manifest);
    hex(&hasher.finalize())[..16].to_owned()
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SHA-256 of a file, in hexadecimal digits.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    std::io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(hex(&hasher.finalize()))
}

/// Copies a cached image to where the user wants it, writable; the file appears whole.
pub(crate) fn copy_image(image: &Path, output: &Path) -> Result<()> {
    let parent =
        output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut copy = NamedTempFile::with_prefix_in(TEMPORARY, parent)?;
    std::io::copy(&mut File::open(image)?, &mut copy)?;
    copy.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    copy.persist(output)?;
    Ok(())
}

/// Moves a finished image to its name, read-only: it is shared by every test.
pub(crate) fn publish(disk: &Path, image: &Path) -> Result<()> {
    let file = File::open(disk)?;
    file.set_permissions(fs::Permissions::from_mode(0o444))?;
    file.sync_all()?;
    fs::rename(disk, image).with_context(|| format!("moving the image to {}", image.display()))
}

/// The cache while this process alone may write to it.
#[derive(Debug)]
pub(crate) struct Locked {
    folder: PathBuf,
    /// Locked as long as it is open, so the kernel unlocks it however this process ends.
    _lock: File,
}

impl Locked {
    /// Waits for other builds, then removes what a killed one left.
    pub(crate) async fn lock(folder: &Path) -> Result<Locked> {
        let path = folder.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.with_context(|| format!("opening {}", path.display()))?;
        let mut waited = false;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(fs::TryLockError::WouldBlock) => {
                    if !waited {
                        note("  ... waiting for another build of a guest");
                        waited = true;
                    }
                    process::check_interrupt()?;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(fs::TryLockError::Error(error)) => {
                    return Err(anyhow!(error).context(format!("locking {}", path.display())));
                }
            }
        }
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                remove(&entry.path())?;
            }
        }
        Ok(Locked { folder: folder.to_owned(), _lock: lock })
    }

    /// A folder of the cache that stays: for packages and their lists.
    pub(crate) fn subfolder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        Ok(folder)
    }

    /// A folder that is removed when dropped; on the cache's file system, so that files can be
    /// renamed out of it.
    pub(crate) fn work_folder(&self) -> Result<TempDir> {
        TempDir::with_prefix_in(TEMPORARY, &self.folder)
            .with_context(|| format!("creating a folder in {}", self.folder.display()))
    }

    /// Where the image with this key belongs.
    pub(crate) fn image(&self, system: System, arch: Arch, key: &str) -> PathBuf {
        self.folder.join(format!("{}-{key}.img", prefix(system, arch)))
    }

    /// Makes `image` the one that [`lookup`] finds, and removes the oldest others.
    pub(crate) fn point(&self, system: System, arch: Arch, image: &Path) -> Result<()> {
        let name = image.file_name().context("an image has a name")?;
        let mut file = NamedTempFile::with_prefix_in(TEMPORARY, &self.folder)?;
        file.write_all(name.as_encoded_bytes())?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        file.persist(pointer(&self.folder, system, arch))?;
        let prefix = format!("{}-", prefix(system, arch));
        self.prune(&prefix, ".img")?;
        self.prune(&prefix, ".current")
    }

    /// Removes all but the newest [`KEPT`] files of a kind.
    fn prune(&self, prefix: &str, suffix: &str) -> Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(prefix) && name.ends_with(suffix) {
                files.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        files.sort();
        for (_, path) in files.iter().rev().skip(KEPT) {
            remove(path)?;
        }
        Ok(())
    }
}

fn remove(path: &Path) -> Result<()> {
    let outcome = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    outcome.with_context(|| format!("removing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_published_image_is_found_and_leftovers_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(".tmp-dead")).unwrap();
        assert_eq!(lookup(folder.path(), System::Tiny, Arch::X86_64), None);

        let cache = Locked::lock(folder.path()).await.unwrap();
        let work = cache.work_folder().unwrap();
        let disk = work.path().join("disk");
        fs::write(&disk, "image").unwrap();
        let image = cache.image(System::Tiny, Arch::X86_64, &key(System::Tiny, "a 1"));
        publish(&disk, &image).unwrap();
        cache.point(System::Tiny, Arch::X86_64, &image).unwrap();
        drop((work, cache));

        assert_eq!(lookup(folder.path(), System::Tiny, Arch::X86_64), Some(image));
        assert_eq!(lookup(folder.path(), System::Tiny, Arch::Aarch64), None);
        let left = fs::read_dir(folder.path()).unwrap().flatten();
        assert!(
            left.into_iter().all(|entry| !entry.file_name().to_string_lossy().starts_with(".tmp-"))
        );
    }

    #[test]
    fn the_key_follows_the_packages() {
        assert_eq!(key(System::Tiny, "a 1"), key(System::Tiny, "a 1"));
        assert_ne!(key(System::Tiny, "a 1"), key(System::Tiny, "a 2"));
        assert_ne!(key(System::Tiny, "a 1"), key(System::Debian, "a 1"));
    }
}
