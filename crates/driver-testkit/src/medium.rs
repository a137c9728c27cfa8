//! A flasher's medium, which the suite reads without the driver.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::instance::Instance;

/// The medium's content at one moment: of a folder, that of every file in it.
#[derive(PartialEq, Eq)]
pub(crate) struct Content(BTreeMap<PathBuf, Vec<u8>>);

impl Content {
    /// The content of the instance's medium, if the driver's author names it.
    pub(crate) fn of(instance: &Instance) -> Result<Option<Self>, String> {
        let Some(medium) = &instance.medium else { return Ok(None) };
        let mut files = BTreeMap::new();
        let read = read(medium, &mut files);
        read.map_err(|error| format!("looking at {}: {error}", medium.display()))?;
        Ok(Some(Self(files)))
    }

    /// Waits until the medium has this content again: another thread may remove staged files.
    pub(crate) async fn is_unchanged(&self, instance: &Instance) -> Result<(), String> {
        let start = Instant::now();
        while Self::of(instance).ok().flatten().as_ref() != Some(self) {
            if start.elapsed() > instance.settle {
                let now = Self::of(instance)?.map_or_else(Vec::new, |now| now.names());
                return Err(format!("the medium changed: {:?} became {now:?}", self.names()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    fn names(&self) -> Vec<String> {
        let name = |(path, bytes): (&PathBuf, &Vec<u8>)| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            format!("{name} ({} bytes)", bytes.len())
        };
        self.0.iter().map(name).collect()
    }
}

fn read(path: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> io::Result<()> {
    if !path.is_dir() {
        files.insert(path.to_owned(), fs::read(path)?);
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        read(&entry?.path(), files)?;
    }
    Ok(())
}
