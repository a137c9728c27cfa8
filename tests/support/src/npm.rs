//! Programs of npm's registry, which tests use as peers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jumpstarter_driver_testkit::skip;
use jumpstarter_supervise::{Command, run_unchecked};

/// Downloads take their time.
const LIMIT: Duration = Duration::from_secs(180);

/// The folder in which a package is installed, such as `s3rver@3.7.1`. `cache` is a test's
/// `CARGO_TARGET_TMPDIR`. `None`, after a skip, where npm cannot install it.
pub async fn package(cache: &Path, package: &str) -> Option<PathBuf> {
    install(cache, package, |_| Command::new("npm").args(["install", package])).await
}

/// The folder in which the packages of the lock file in `source` are installed, under the name
/// `name`. Otherwise as [`package`].
pub async fn locked(cache: &Path, name: &str, source: &Path) -> Option<PathBuf> {
    let prepare = |folder: &Path| {
        for file in ["package.json", "package-lock.json"] {
            std::fs::copy(source.join(file), folder.join(file)).unwrap();
        }
        Command::new("npm").args(["ci", "--ignore-scripts"])
    };
    install(cache, name, prepare).await
}

async fn install(
    cache: &Path,
    name: &str,
    prepare: impl FnOnce(&Path) -> Command,
) -> Option<PathBuf> {
    let folder = cache.join(name);
    // Tests run at the same time: the first one installs.
    let lock = std::fs::File::create(cache.join(format!("{name}.lock"))).unwrap();
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await.unwrap();
    let _lock = lock.unwrap();
    if folder.exists() {
        return Some(folder);
    }
    let incoming = tempfile::tempdir_in(cache).unwrap();
    let command =
        prepare(incoming.path()).args(["--no-audit", "--no-fund", "--prefix"]).arg(incoming.path());
    let why = match run_unchecked(command, LIMIT).await {
        Ok(output) if output.status.success() => {
            // Whole before it has its name.
            std::fs::rename(incoming.path(), &folder).unwrap();
            return Some(folder);
        }
        Ok(output) => output.stderr.lines().last().unwrap_or_default().to_owned(),
        Err(error) => error.to_string(),
    };
    skip(&format!("npm cannot install {name}: {why}"));
    None
}
