//! Block maps (bmap files) of images: the given one, or the one beside the image.

use std::ffi::OsStr;
use std::time::Duration;

use jumpstarter_driver_core::{Error, ResultExt, blocking};
use jumpstarter_transfer::SmallRequest;

use crate::fault::Result;
use crate::j::image;

/// The largest bmap file that is looked at, in bytes.
const LARGEST: u64 = 3 << 20;
/// How long a server may take to say whether it has a block map.
const LOOK_LIMIT: Duration = Duration::from_secs(10);
/// How long a server may take.
const SERVER_LIMIT: Duration = Duration::from_secs(60);

/// The text of a bmap file: a path or a URL.
pub(super) async fn read(file: &OsStr) -> Result<String> {
    let doing = format!("reading the block map {}", image::label(file));
    if let Some(url) = file.to_str().filter(|word| image::is_url(word)) {
        let answer = async {
            let answer = SmallRequest::new("GET", url)?.send(SERVER_LIMIT).await?;
            if answer.status() != 200 {
                return Err(answer.into_error());
            }
            String::from_utf8(answer.body.to_vec())
                .map_err(|_| Error::data_loss("it is no bmap file: it is no text"))
        };
        return Ok(answer.await.context(doing)?);
    }
    let path = file.to_owned();
    Ok(blocking(move || Ok(std::fs::read_to_string(path)?)).await.context(doing)?)
}

/// The bmap file beside an image, by its name and text: a file of this machine, or one that the
/// server of the image has. For `os.img.gz` that is `os.img.gz.bmap`, `os.img.bmap` or `os.bmap`.
///
/// A URL with a query is not tried: it may be signed for one file.
pub(super) async fn beside(file: &OsStr) -> Option<(String, String)> {
    let word = file.to_str().filter(|word| *word != image::STANDARD_STREAM)?;
    if image::is_oci(word) || image::is_s3(word) {
        return None;
    }
    if image::is_url(word) {
        let path = word.splitn(4, '/').nth(3).unwrap_or_default();
        let has_file = !path.is_empty() && !path.ends_with('/') && !word.contains(['?', '#']);
        return if has_file { of_server(names(word)).await } else { None };
    }
    let names = names(word);
    let find =
        move || Ok(names.into_iter().find_map(|name| of_file(&name).map(|text| (name, text))));
    blocking(find).await.ok().flatten()
}

/// The first of these that the server has. Its other answers mean that there is none; a server that
/// does not answer is asked once: the exporter may reach it.
async fn of_server(urls: Vec<String>) -> Option<(String, String)> {
    for url in urls {
        let asking = async { SmallRequest::new("GET", &url)?.confined().send(LOOK_LIMIT).await };
        match asking.await {
            Ok(answer) if answer.status() == 200 => {
                let text = String::from_utf8(answer.body.to_vec()).unwrap_or_default();
                if text.contains("<bmap") {
                    return Some((image::label(OsStr::new(&url)), text));
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(error = %error.report(), "looking for a block map");
                return None;
            }
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

fn of_file(path: &str) -> Option<String> {
    let found = std::fs::metadata(path).ok()?;
    let is_one = found.is_file() && found.len() <= LARGEST;
    let text = is_one.then(|| std::fs::read_to_string(path).ok()).flatten()?;
    text.contains("<bmap").then_some(text)
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
        let url = "https://a.b:1/os.xz";
        assert_eq!(names(url), ["https://a.b:1/os.xz.bmap", "https://a.b:1/os.bmap"]);
    }
}
