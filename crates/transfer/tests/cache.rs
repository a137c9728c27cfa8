//! The image cache of programs that run one after the other, also after a killed one.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::TryStreamExt;
use jumpstarter_driver_core::image::ImageRequest;
use jumpstarter_driver_testkit::eventually;
use jumpstarter_supervise::{Command, run_unchecked};
use jumpstarter_transfer::download;
use registry::{BASIC, MANIFEST, Registry, manifest, push_blob, push_manifest, sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

mod registry;

const DEADLINE: Duration = Duration::from_secs(120);
/// What the helper fetches, where it writes the image, and its digest.
const URL: &str = "CACHE_TEST_URL";
const TARGET: &str = "CACHE_TEST_TARGET";
const DIGEST: &str = "CACHE_TEST_DIGEST";

/// Run in a separate process by the tests below.
#[tokio::test]
async fn fetching_helper() {
    let Ok(url) = std::env::var(URL) else { return };
    let request = ImageRequest::new(&url).unwrap();
    let request = match std::env::var(DIGEST) {
        Ok(digest) => request.with_sha256(digest),
        Err(_) => request.with_header("authorization", BASIC),
    };
    let mut target = tokio::fs::File::create(std::env::var(TARGET).unwrap()).await.unwrap();
    let mut image = download(request, DEADLINE).unwrap().into_stream();
    while let Some(piece) = image.try_next().await.unwrap() {
        target.write_all(&piece).await.unwrap();
        target.flush().await.unwrap();
    }
}

/// A folder with the cache and what is fetched.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn cache(&self) -> PathBuf {
        self.0.path().join("cache")
    }

    fn target(&self) -> PathBuf {
        self.0.path().join("fetched")
    }

    /// None before the folder is there: a program that is killed early has not made it yet.
    fn entries(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.cache()) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// The program that fetches from `url`.
    fn helper(&self, url: &str) -> Command {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "fetching_helper", "--nocapture"])
            .env("JMP_IMAGE_CACHE", self.cache())
            .env(URL, url)
            .env(TARGET, self.target())
    }

    /// What it fetches.
    async fn fetch(&self, helper: Command) -> Vec<u8> {
        let done = run_unchecked(helper, DEADLINE).await.unwrap();
        assert!(done.status.success(), "{}", done.stderr);
        std::fs::read(self.target()).unwrap()
    }
}

fn length(path: &Path) -> usize {
    std::fs::metadata(path).map_or(0, |found| usize::try_from(found.len()).unwrap())
}

#[tokio::test]
async fn a_program_that_is_killed_leaves_nothing_that_is_delivered() {
    let image: Vec<u8> = (0..3_500_000_u32).map(|number| (number / 7) as u8).collect();
    let digest = sha256(&image).trim_start_matches("sha256:").to_owned();
    let (served, sent) = (image.clone(), Arc::new(Mutex::new(0)));
    let shared = sent.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/os.img", listener.local_addr().unwrap());
    // It sends the first bytes, and keeps the rest until its client ends.
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(stream.read_u8().await.unwrap());
            }
            let count = *shared.lock().unwrap();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", served.len());
            stream.write_all(head.as_bytes()).await.ok();
            stream.write_all(&served[..count]).await.ok();
            stream.read_to_end(&mut asked).await.ok();
        }
    });
    let bench = Bench::new();
    for count in [1_500_000, 2_500_000, image.len() - 1] {
        *sent.lock().unwrap() = count;
        let helper = bench.helper(&url).env(DIGEST, &digest).spawn().await.unwrap();
        let target = bench.target();
        // The last piece, of some hundred KiB, is kept until the next one comes.
        eventually("the beginning is fetched", || length(&target) > 0).await;
        helper.kill();
        tokio::time::timeout(DEADLINE, helper.wait_gone()).await.unwrap();
        assert!(bench.entries().is_empty(), "{:?} after {count} bytes", bench.entries());
        std::fs::remove_file(target).unwrap();
    }
    *sent.lock().unwrap() = image.len();
    assert!(bench.fetch(bench.helper(&url).env(DIGEST, &digest)).await == image);
    assert_eq!(bench.entries(), [digest.as_str()]);
    // Without its server: it comes from the cache.
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
    assert!(bench.fetch(bench.helper(&url).env(DIGEST, &digest)).await == image);
}

/// Passes connections on to `address`, and notes the first line of each.
async fn watched(address: String) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.push(client.read_u8().await.unwrap());
            }
            seen.lock().unwrap().push(String::from_utf8(line.clone()).unwrap());
            let mut server = TcpStream::connect(&address).await.unwrap();
            tokio::spawn(async move {
                server.write_all(&line).await.ok();
                tokio::io::copy_bidirectional(&mut client, &mut server).await.ok();
            });
        }
    });
    (here, asked)
}

#[tokio::test]
async fn the_second_flash_from_a_registry_fetches_no_layer() {
    let Some(registry) = Registry::start().await else { return };
    let disk: Vec<u8> = (0..3_000_000_u32).map(|number| (number / 7) as u8).collect();
    for blob in [&disk[..], b"{}"] {
        push_blob(&registry.address, "lab/os", blob).await;
    }
    let text = manifest(&[("os.img", &disk)]);
    push_manifest(&registry.address, "lab/os", "1", MANIFEST, &text).await;
    let (address, asked) = watched(registry.address.clone()).await;
    let blobs = || {
        let asked = std::mem::take(&mut *asked.lock().unwrap());
        assert!(asked.iter().any(|line| line.contains("/manifests/1 ")), "{asked:?}");
        asked.iter().filter(|line| line.contains("/blobs/")).count()
    };
    let (bench, url) = (Bench::new(), format!("oci://{address}/lab/os:1"));
    assert!(bench.fetch(bench.helper(&url)).await == disk);
    assert!(blobs() > 0);
    assert_eq!(bench.entries(), [sha256(&disk).trim_start_matches("sha256:")]);
    assert!(bench.fetch(bench.helper(&url)).await == disk);
    assert_eq!(blobs(), 0);
    registry.end(DEADLINE).await;
}
