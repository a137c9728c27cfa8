//! A folder of images: each is for the target that its file is named after.

use std::ffi::OsStr;
use std::path::Path;

use jumpstarter_driver_core::{Error, FlashTargets, Flasher, ResultExt, blocking, suggest};

use super::Named;
use crate::fault::Result;

/// The most images of a folder.
const MOST: usize = 1000;
/// The ends of compressed files' names.
const COMPRESSED: [&str; 8] = [".gz", ".xz", ".bz2", ".zst", ".zstd", ".lz4", ".lzma", ".lz"];

/// The images of a folder, each with its target. Hidden files and block maps are passed over;
/// anything else that is not the image of a target is refused.
pub(super) async fn images(flasher: &dyn Flasher, folder: &OsStr) -> Result<Vec<Named>> {
    let path = Path::new(folder).to_owned();
    let doing = format!("flashing the images in {}; nothing was written", path.display());
    let finding = async {
        let found = path.clone();
        let files = blocking(move || files(&found)).await?;
        let targets = FlashTargets::of(flasher).await?.ok_or_else(|| {
            Error::unimplemented("this flasher does not list its targets")
                .with_hint("name each target with its image: --target NAME:FILE")
        })?;
        assign(&files, &targets)
    };
    let images = finding.await.context(doing)?;
    let whole = |(file, target): (String, String)| (path.join(file).into_os_string(), Some(target));
    Ok(images.into_iter().map(whole).collect())
}

/// The names of the images, in order.
fn files(folder: &Path) -> jumpstarter_driver_core::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|name| {
            Error::invalid_argument(format!("the name {} is not UTF-8", name.display()))
        })?;
        if name.starts_with('.') || name.ends_with(".bmap") {
            continue;
        }
        if !std::fs::metadata(entry.path()).with_context(|| name.clone())?.is_file() {
            return Err(Error::invalid_argument(format!("{name} is no file"))
                .with_hint("leave only images in the folder, without folders below it"));
        }
        names.push(name);
        if names.len() > MOST {
            return Err(Error::resource_exhausted(format!("it holds more than {MOST} files")));
        }
    }
    names.sort();
    Ok(names)
}

/// Gives each file its target. A flasher that takes any name and has none yet gets the files' own.
fn assign(
    files: &[String],
    targets: &FlashTargets,
) -> jumpstarter_driver_core::Result<Vec<(String, String)>> {
    let takes_any = targets.accepts_others && targets.known.is_empty();
    let mut images: Vec<(String, String)> = Vec::new();
    for file in files {
        let names = names(file);
        let target = match takes_any {
            true => Some(names[names.len().min(2) - 1]),
            false => names.iter().find(|name| targets.get(name).is_some()).copied(),
        };
        let target = target.ok_or_else(|| {
            let plain = names[names.len() - 1];
            let there = suggest::hint(plain, targets.names());
            Error::invalid_argument(format!("{file} is named after no target"))
                .with_hint(format!("rename or remove it: {there}"))
        })?;
        if let Some((other, _)) = images.iter().find(|(_, known)| known == target) {
            let message = format!("both {other} and {file} are for the target `{target}`");
            return Err(Error::invalid_argument(message).with_hint("remove one of them"));
        }
        images.push((file.clone(), target.to_owned()));
    }
    match images.is_empty() {
        true => Err(Error::not_found("it holds no image")),
        false => Ok(images),
    }
}

/// The names that a file's target may have, the longest first: with every extension, without that
/// of its compression, and without the next one.
fn names(file: &str) -> Vec<&str> {
    let stem = COMPRESSED.iter().find_map(|end| file.strip_suffix(end));
    let stem = stem.filter(|stem| !stem.is_empty());
    let plain = stem.unwrap_or(file);
    let mut names = vec![file];
    names.extend(stem);
    names.extend(plain.rsplit_once('.').map(|(name, _)| name).filter(|name| !name.is_empty()));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_and_without_extensions() {
        assert_eq!(names("rootfs.img.zst"), ["rootfs.img.zst", "rootfs.img", "rootfs"]);
        assert_eq!(names("boot.img"), ["boot.img", "boot"]);
        assert_eq!(names("boot"), ["boot"]);
        assert_eq!(names("a.b.xz"), ["a.b.xz", "a.b", "a"]);
    }
}
