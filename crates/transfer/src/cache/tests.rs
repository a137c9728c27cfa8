//! What is kept, what is not, and what a damaged entry does.

use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use jumpstarter_driver_core::ErrorKind;
use jumpstarter_driver_core::image::hex;
use ring::digest::{SHA256, digest};

use super::*;

/// An image of some pieces, and a part of one.
fn image(seed: u8) -> Vec<u8> {
    (0..2_500_000_u32).map(|number| (number / 7) as u8 ^ seed).collect()
}

fn sha256(image: &[u8]) -> String {
    hex(digest(&SHA256, image).as_ref())
}

struct Bench {
    folder: tempfile::TempDir,
    settings: Settings,
    fetches: Arc<AtomicUsize>,
}

impl Bench {
    fn new(limit: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = Some(Cache { folder: folder.path().join("cache"), limit });
        let settings = Settings { cache, ..Settings::default() };
        Self { folder, settings, fetches: Arc::default() }
    }

    /// The result of a download of `body` where `wanted` is expected.
    async fn get(&self, wanted: &str, body: Vec<std::io::Result<Bytes>>) -> Result<Vec<u8>> {
        let fetches = self.fetches.clone();
        let fetch = async move {
            fetches.fetch_add(1, Ordering::Relaxed);
            Ok(Image { chunks: stream::iter(body).boxed(), length: None })
        };
        let expected = Expected::image("http://a/os.img", wanted.to_owned());
        let image = cached(self.settings.clone(), expected, fetch.boxed()).await?;
        let chunks: Vec<Bytes> = image.chunks.try_collect().await?;
        Ok(chunks.concat())
    }

    async fn get_whole(&self, image: &[u8]) {
        let pieces = image.chunks(70_001).map(|piece| Ok(Bytes::copy_from_slice(piece)));
        assert!(self.get(&sha256(image), pieces.collect()).await.unwrap() == image);
    }

    fn entries(&self) -> Vec<PathBuf> {
        let Ok(found) = std::fs::read_dir(self.folder.path().join("cache")) else { return vec![] };
        let mut paths: Vec<_> = found.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }

    fn fetches(&self) -> usize {
        self.fetches.swap(0, Ordering::Relaxed)
    }
}

#[tokio::test]
async fn an_image_is_fetched_once() {
    let (bench, image) = (Bench::new(1 << 30), image(0));
    for fetches in [1, 0, 0] {
        bench.get_whole(&image).await;
        assert_eq!(bench.fetches(), fetches);
        let names = bench.entries();
        assert_eq!(names.len(), 1);
        assert!(names[0].ends_with(sha256(&image)));
    }
}

#[tokio::test]
async fn a_damaged_entry_is_fetched_again_and_never_delivered() {
    let (bench, image) = (Bench::new(1 << 30), image(0));
    // In the last piece, in the table, in the footer; and too short.
    for damage in [2_400_000, 2_500_003, 2_500_030, 2_500_047, u64::MAX] {
        bench.get_whole(&image).await;
        bench.fetches();
        let path = bench.entries().remove(0);
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        match damage {
            u64::MAX => file.set_len(2_000_000).unwrap(),
            at => file.write_all_at(b"\xa5\x5a", at).unwrap(),
        }
        bench.get_whole(&image).await;
        assert_eq!(bench.fetches(), 1, "{damage}");
        bench.get_whole(&image).await;
        // A damage that showed while it was read dropped the entry; it is kept at the next flash.
        let expected = usize::from(damage == 2_400_000);
        assert_eq!(bench.fetches(), expected, "{damage}");
    }
}

#[tokio::test]
async fn another_image_under_the_name_is_refused_and_removed() {
    let (bench, first, second) = (Bench::new(1 << 30), image(0), image(1));
    bench.get_whole(&first).await;
    let path = bench.entries().remove(0);
    std::fs::rename(&path, path.with_file_name(sha256(&second))).unwrap();
    let error = bench.get(&sha256(&second), vec![]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataLoss, "{error:?}");
    assert!(bench.entries().is_empty());
    // A pipe or a link is none.
    std::os::unix::fs::symlink("/dev/zero", path.with_file_name(sha256(&second))).unwrap();
    bench.fetches();
    bench.get_whole(&second).await;
    assert_eq!(bench.fetches(), 1);
}

#[tokio::test]
async fn what_is_not_whole_is_not_kept() {
    let (bench, image) = (Bench::new(1 << 30), image(0));
    let wanted = sha256(&image);
    let half = || Ok(Bytes::copy_from_slice(&image[..1_200_000]));
    let broken = Err(std::io::Error::other("the cable was pulled"));
    for body in [vec![half()], vec![half(), broken]] {
        bench.get(&wanted, body).await.unwrap_err();
        assert!(bench.entries().is_empty());
    }
    // While it is fetched it has no name: a killed process leaves nothing.
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let body = stream::unfold(receiver, async |mut receiver: tokio::sync::mpsc::Receiver<_>| {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    let fetch = async move { Ok(Image { chunks: body.boxed(), length: None }) };
    let expected = Expected::image("http://a/os.img", wanted);
    let fetching = cached(bench.settings.clone(), expected, fetch.boxed());
    let mut chunks = fetching.await.unwrap().chunks;
    for _ in 0..8 {
        sender.send(half()).await.unwrap();
        chunks.next().await.unwrap().unwrap();
    }
    assert!(bench.entries().is_empty());
}

#[tokio::test]
async fn the_least_recently_used_goes_first() {
    let images: Vec<_> = (0..4).map(image).collect();
    // Three images and their tables fit.
    let bench = Bench::new(3 * 2_500_100);
    let path = |number: usize| bench.folder.path().join("cache").join(sha256(&images[number]));
    for image in &images[..3] {
        bench.get_whole(image).await;
    }
    let now = SystemTime::now();
    for (number, age) in [(0, 30), (1, 20), (2, 10)] {
        let used = now - Duration::from_secs(age);
        std::fs::File::open(path(number)).unwrap().set_modified(used).unwrap();
    }
    bench.get_whole(&images[0]).await;
    bench.get_whole(&images[3]).await;
    let kept: Vec<_> = (0..4).filter(|number| path(*number).exists()).collect();
    assert_eq!(kept, [0, 2, 3]);
    // One that is larger than the cache is delivered, and displaces nothing.
    let large: Vec<u8> = image(9).repeat(4);
    bench.get_whole(&large).await;
    assert_eq!(bench.entries().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn flashes_at_once_do_not_disturb_each_other() {
    // One image fits: they displace each other all the time.
    let bench = Arc::new(Bench::new(2_500_100));
    let flashes = (0..16).map(|number| {
        let bench = bench.clone();
        tokio::spawn(async move { bench.get_whole(&image(number % 2)).await })
    });
    for flash in flashes.collect::<Vec<_>>() {
        flash.await.unwrap();
    }
    assert!(bench.entries().len() <= 2);
}

#[test]
fn settings_are_checked() {
    let cache = |folder: &'static str, size: &'static str| {
        let find = move |name: &str| match name {
            FOLDER => Some(folder.to_owned()),
            _ => Some(size.to_owned()),
        };
        Cache::new(find).map(|cache| cache.map(|cache| cache.limit))
    };
    assert_eq!(cache("", "").unwrap(), None);
    assert_eq!(cache("/var/cache/jmp", "").unwrap(), Some(20 << 30));
    assert_eq!(cache("/var/cache/jmp", "500M").unwrap(), Some(500 << 20));
    assert!(cache("cache", "").unwrap_err().to_string().contains("is not absolute"));
    assert!(cache("/c", "much").unwrap_err().report().contains(SIZE));
}
