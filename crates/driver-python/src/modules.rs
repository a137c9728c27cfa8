//! The files of the modules that a process in Python has loaded, and whether they have changed.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jumpstarter_driver_core::prelude::*;
use serde_json::Value;

/// Files, each as it was when it was loaded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Modules(Arc<Vec<(PathBuf, Loaded)>>);

#[derive(Debug, PartialEq, Eq)]
enum Loaded {
    As(Option<Stamp>),
    /// It was written meanwhile: which of the two was loaded is not known.
    Unclear,
}

/// Changes with the file.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let data = std::fs::metadata(path).ok()?;
        Some(Self { modified: data.modified().ok(), length: data.len(), inode: data.ino() })
    }
}

impl Modules {
    /// Those that a process reports: `modules`, which it loaded since `began`, in nanoseconds since
    /// 1970.
    pub(crate) async fn read(report: &Value) -> Self {
        let files = report["modules"].as_array().into_iter().flatten();
        let files: Vec<PathBuf> =
            files.filter_map(|file| Some(PathBuf::from(file.as_str()?))).collect();
        let began = report["began"].as_u64().map(Duration::from_nanos);
        let began = began.map_or_else(SystemTime::now, |began| UNIX_EPOCH + began);
        let read = move || {
            let loaded = files.into_iter().map(|file| {
                let stamp = Stamp::of(&file);
                let since = stamp.as_ref().and_then(|stamp| stamp.modified);
                let is_unclear = since.is_some_and(|since| since >= began);
                (file, if is_unclear { Loaded::Unclear } else { Loaded::As(stamp) })
            });
            Ok(Self(Arc::new(loaded.collect())))
        };
        blocking(read).await.unwrap_or_default()
    }

    pub(crate) async fn have_changed(&self) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let files = self.0.clone();
        let have_changed =
            move || Ok(files.iter().any(|(file, loaded)| Loaded::As(Stamp::of(file)) != *loaded));
        blocking(have_changed).await.unwrap_or_default()
    }
}
