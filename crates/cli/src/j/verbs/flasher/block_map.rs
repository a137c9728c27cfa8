//! Block maps (bmap files) of images: the given one, or the one beside the image.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use jumpstarter_driver_core::{ResultExt, blocking};
use jumpstarter_transfer::SmallRequest;

use crate::fault::Result;
use crate::j::image;

/// The largest bmap file that is looked at, in bytes.
const LARGEST: u64 = 3 << 20;
/// A server that does not answer within this has none.
const SERVER_LIMIT: Duration = Duration::from_secs(5);

/// The text of a bmap file.
pub(super) async fn read(path: &Path) -> Result<String> {
    let path = path.to_owned();
    let doing = format!("reading the block map {}", path.display());
    Ok(blocking(move || Ok(std::fs::read_to_string(path)?)).await.context(doing)?)
}

/// The bmap file beside an image, by its name and text. For `os.img.gz` that is `os.img.gz.bmap`,
/// `os.img.bmap` or `os.bmap`.
pub(super) async fn beside(file: &OsStr) -> Option<(String, String)> {
    let word = file.to_str().filter(|word| *word != image::STANDARD_STREAM)?;
    let is_url = image::is_url(word);
    // A signature would cover another name.
    if image::is_oci(word) || (is_url && word.contains(['?', '#'])) {
        return None;
    }
    for name in names(word) {
        let text = match is_url {
            true => fetched(&name).await,
            false => {
                let path = name.clone();
                blocking(move || Ok(of_file(Path::new(&path)))).await.ok().flatten()
            }
        };
        if let Some(text) = text.filter(|text| text.contains("<bmap")) {
            return Some((name, text));
        }
    }
    None
}

fn names(word: &str) -> Vec<String> {
    let (folder, mut stem) = word
        .rsplit_once('/')
        .map_or(("", word), |(_, file)| (&word[..word.len() - file.len()], file));
    let mut names = vec![format!("{word}.bmap")];
    while let Some((shorter, _)) = stem.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()) {
        stem = shorter;
        names.push(format!("{folder}{stem}.bmap"));
    }
    names.retain(|name| name != word);
    names
}

fn of_file(path: &Path) -> Option<String> {
    let found = std::fs::metadata(path).ok()?;
    let is_one = found.is_file() && found.len() <= LARGEST;
    is_one.then(|| std::fs::read_to_string(path).ok()).flatten()
}

async fn fetched(url: &str) -> Option<String> {
    let answer = SmallRequest::new("GET", url).ok()?.send(SERVER_LIMIT).await.ok()?;
    (answer.status() == 200).then(|| String::from_utf8(answer.body.to_vec()).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn names_beside_an_image() {
        assert_eq!(
            names("a.b/os.img.gz"),
            ["a.b/os.img.gz.bmap", "a.b/os.img.bmap", "a.b/os.bmap"]
        );
        assert_eq!(names("os"), ["os.bmap"]);
        assert_eq!(names(".img"), [".img.bmap"]);
        assert_eq!(names("https://h.x/os.img"), ["https://h.x/os.img.bmap", "https://h.x/os.bmap"]);
    }
}
