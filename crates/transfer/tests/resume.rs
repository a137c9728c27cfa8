//! Downloads whose server breaks off.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt;
use jumpstarter_driver_core::image::ImageRequest;
use jumpstarter_driver_core::{Error, ErrorKind};
use jumpstarter_driver_testkit::reserve_port;
use jumpstarter_transfer::download;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const DEADLINE: Duration = Duration::from_secs(60);

/// What a server does.
#[derive(Clone)]
struct Server {
    image: Arc<Vec<u8>>,
    /// A tag for each answer in turn; the last one stays.
    tags: Vec<Option<&'static str>>,
    has_ranges: bool,
    /// How many bytes of a body it sends at most, by the number of the answer.
    sends: fn(usize) -> usize,
}

impl Server {
    /// Its URL, and how many requests it has answered.
    async fn start(self) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/os.img", listener.local_addr().unwrap());
        let answered = Arc::new(AtomicUsize::new(0));
        let counter = answered.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = counter.fetch_add(1, Ordering::SeqCst);
                // A client that has seen enough leaves.
                drop(self.answer(stream, number).await);
            }
        });
        (url, answered)
    }

    async fn answer(&self, mut stream: TcpStream, number: usize) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let header = |name: &str| {
            head.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
        };
        let tag = self.tags[number.min(self.tags.len() - 1)];
        let first =
            header("range: bytes=").map(|range| range.trim_end_matches('-').parse().unwrap());
        let is_same = header("if-range:").is_none_or(|wanted| Some(&*wanted) == tag);
        let first: usize = first.filter(|_| self.has_ranges && is_same).unwrap_or(0);
        let total = self.image.len();
        let mut answer = match first {
            0 => "HTTP/1.1 200 OK\r\n".to_owned(),
            _ => format!(
                "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {first}-{}/{total}\r\n",
                total - 1
            ),
        };
        if let Some(tag) = tag {
            answer += &format!("etag: {tag}\r\n");
        }
        answer += &format!("content-length: {}\r\n\r\n", total - first);
        stream.write_all(answer.as_bytes()).await?;
        let body = &self.image[first..];
        stream.write_all(&body[..body.len().min((self.sends)(number))]).await
    }
}

fn image() -> Vec<u8> {
    (0..100_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

fn server(tags: &[Option<&'static str>], has_ranges: bool, sends: fn(usize) -> usize) -> Server {
    Server { image: Arc::new(image()), tags: tags.to_vec(), has_ranges, sends }
}

async fn fetch(request: ImageRequest) -> Result<Vec<u8>, Error> {
    let reading = download(request, DEADLINE).unwrap().into_stream().try_collect::<Vec<_>>();
    let chunks = tokio::time::timeout(DEADLINE, reading).await.expect("it ends in time");
    chunks.map(|chunks| chunks.concat()).map_err(Error::from)
}

const TAG: Option<&str> = Some("\"v1\"");

#[tokio::test]
async fn a_download_goes_on_where_it_broke_off() {
    for (tags, has_ranges) in
        [(&[TAG][..], true), (&[TAG], false), (&[None], true), (&[None], false)]
    {
        // Each answer sends more than the one before.
        let (url, answered) =
            server(tags, has_ranges, |number| (number + 1) * 150_000).start().await;
        let fetched = fetch(ImageRequest::new(&url).unwrap()).await.unwrap();
        assert!(fetched == image(), "{tags:?} {has_ranges}");
        assert!(answered.load(Ordering::SeqCst) > 1);
    }
}

#[tokio::test]
async fn a_server_that_breaks_off_at_every_offset_is_read_to_the_end() {
    let mut short = server(&[TAG], true, |_| 1);
    short.image = Arc::new((0..1500_u32).map(|number| (number * 7) as u8).collect());
    let expected = short.image.clone();
    let (url, answered) = short.start().await;
    assert!(fetch(ImageRequest::new(&url).unwrap()).await.unwrap() == *expected);
    assert_eq!(answered.load(Ordering::SeqCst), expected.len());
}

#[tokio::test]
async fn another_image_is_not_appended() {
    let sends = |number| if number == 0 { 150_000 } else { usize::MAX };
    for (tags, has_ranges) in [(&[TAG, Some("\"v2\"")], true), (&[TAG, None], false)] {
        let (url, _) = server(tags, has_ranges, sends).start().await;
        let error = fetch(ImageRequest::new(&url).unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataLoss);
        assert!(error.report().contains("changed meanwhile"), "{}", error.report());
    }
    // Without a tag the content shows it.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/os.img", listener.local_addr().unwrap());
    let mut first = server(&[None], true, |_| 150_000);
    let mut other = server(&[None], true, |_| usize::MAX);
    let mut changed = image();
    changed[100_000] ^= 1;
    other.image = Arc::new(changed);
    first.tags = vec![None];
    tokio::spawn(async move {
        for server in [first, other] {
            let (stream, _) = listener.accept().await.unwrap();
            drop(server.answer(stream, 0).await);
        }
    });
    let error = fetch(ImageRequest::new(&url).unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataLoss);
    assert!(error.report().contains("changed meanwhile"), "{}", error.report());
}

#[tokio::test]
async fn a_server_that_gets_no_further_is_given_up() {
    let (url, answered) =
        server(&[TAG], true, |number| if number == 0 { 5 } else { 0 }).start().await;
    let error = fetch(ImageRequest::new(&url).unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataLoss);
    assert!(error.report().contains("broke off"), "{}", error.report());
    assert_eq!(answered.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_server_that_restarts_is_waited_for() {
    let address = ("127.0.0.1", reserve_port());
    let listener = TcpListener::bind(address).await.unwrap();
    let url = format!("http://{}/os.img", listener.local_addr().unwrap());
    let behaviour = server(&[TAG], true, |number| if number == 0 { 150_000 } else { usize::MAX });
    let restarted = behaviour.clone();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        drop(listener);
        drop(behaviour.answer(stream, 0).await);
        // The client finds nobody here at least once.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let listener = TcpListener::bind(address).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        drop(restarted.answer(stream, 1).await);
    });
    assert!(fetch(ImageRequest::new(&url).unwrap()).await.unwrap() == image());
}

/// Answers each request in turn with one of these texts.
async fn answers(texts: &'static [&'static str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/os.img", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for text in texts.iter().cycle() {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            drop(stream.write_all(text.as_bytes()).await);
        }
    });
    url
}

const FIRST: &str = "HTTP/1.1 200 OK\r\netag: \"v1\"\r\ncontent-length: 10\r\n\r\n01234";

#[tokio::test]
async fn a_rest_that_is_not_whole_or_of_another_image_is_no_success() {
    for (rest, said) in [
        // Its end would be that of the connection.
        ("HTTP/1.1 206 OK\r\ncontent-range: bytes 5-9/10\r\n\r\n567", "in another way"),
        // A server that ignores `If-Range`.
        (
            "HTTP/1.1 206 OK\r\netag: \"v2\"\r\ncontent-length: 5\r\n\
             content-range: bytes 5-9/10\r\n\r\n56789",
            "changed meanwhile",
        ),
        (
            "HTTP/1.1 206 OK\r\ncontent-encoding: gzip\r\ncontent-length: 5\r\n\
             content-range: bytes 5-9/10\r\n\r\n56789",
            "in another way",
        ),
        (
            "HTTP/1.1 206 OK\r\ncontent-length: 5\r\n\
             content-range: bytes 5-18446744073709551615/10\r\n\r\n56789",
            "changed meanwhile",
        ),
    ] {
        let texts: &'static [&'static str] = vec![FIRST, rest].leak();
        let error = fetch(ImageRequest::new(&answers(texts).await).unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataLoss, "{}", error.report());
        assert!(error.report().contains(said), "{}", error.report());
    }
    // A rest that is shorter than it should be is itself resumed.
    let short = "HTTP/1.1 206 OK\r\ncontent-length: 2\r\ncontent-range: bytes 5-9/10\r\n\r\n56";
    let last = "HTTP/1.1 206 OK\r\ncontent-length: 3\r\ncontent-range: bytes 7-9/10\r\n\r\n789";
    let texts: &'static [&'static str] = vec![FIRST, short, last].leak();
    let fetched = fetch(ImageRequest::new(&answers(texts).await).unwrap()).await.unwrap();
    assert_eq!(fetched, b"0123456789");
}

#[tokio::test]
async fn known_bytes_that_come_again_are_no_standstill() {
    const STALL_LIMIT: Duration = Duration::from_secs(4);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/os.img", listener.local_addr().unwrap());
    let first = server(&[None], true, |_| 300_000);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        drop(first.answer(stream, 0).await);
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", first.image.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        // All known bytes take longer than nothing may come.
        for (number, piece) in first.image.chunks(15_000).enumerate() {
            if number < 20 {
                tokio::time::sleep(STALL_LIMIT / 10).await;
            }
            stream.write_all(piece).await.unwrap();
        }
    });
    let request = ImageRequest::new(&url).unwrap();
    let reading = download(request, STALL_LIMIT).unwrap().into_stream().try_collect::<Vec<_>>();
    let fetched = tokio::time::timeout(DEADLINE, reading).await.unwrap().map_err(Error::from);
    assert!(fetched.unwrap().concat() == image());
}
