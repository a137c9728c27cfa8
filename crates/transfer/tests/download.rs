//! Downloads from servers that do their part well, badly, or not at all.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

use std::time::Duration;

use futures_util::TryStreamExt;
use jumpstarter_driver_core::image::{Encoding, ImageRequest};
use jumpstarter_driver_core::{Error, ErrorKind, ImageSource};
use jumpstarter_transfer::{download, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const DEADLINE: Duration = Duration::from_secs(60);

/// A server that gives each connection the same answer and then closes it.
async fn server(answer: impl AsRef<[u8]> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (_, mut stream) = head(&listener).await;
            // A client that has seen enough goes.
            drop(stream.write_all(answer.as_ref()).await);
        }
    });
    format!("http://{address}/os.img?sig=s3cret")
}

/// The next request's head, in lower case, and its connection.
async fn head(listener: &TcpListener) -> (String, TcpStream) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    (String::from_utf8(head).unwrap().to_lowercase(), stream)
}

async fn read(source: ImageSource) -> Result<Vec<u8>, Error> {
    let reading = source.into_stream().try_collect::<Vec<_>>();
    let chunks = tokio::time::timeout(DEADLINE, reading).await.expect("it ends in time");
    chunks.map(|chunks| chunks.concat()).map_err(Error::from)
}

async fn fetch(url: &str) -> Result<Vec<u8>, Error> {
    read(download(ImageRequest::new(url).unwrap(), DEADLINE).unwrap()).await
}

async fn compressed(encoding: Encoding, data: &[u8]) -> Vec<u8> {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let mut writer = encode(encoding, Box::pin(near));
    writer.write_all(data).await.unwrap();
    writer.shutdown().await.unwrap();
    drop(writer);
    let mut out = Vec::new();
    far.read_to_end(&mut out).await.unwrap();
    out
}

/// The head of an answer, and its body.
fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\n{head}\r\n").as_bytes(), body].concat()
}

#[tokio::test]
async fn answers_that_hold_no_whole_image_are_refused() {
    use ErrorKind::{DataLoss, FailedPrecondition, NotFound, PermissionDenied, Unavailable};
    let html = b"<!doctype html><title>Sign in</title>";
    let gzip = compressed(Encoding::Gzip, &vec![7; 300_000]).await;
    for (what, answer, kind, said) in [
        ("no end", answer("", b"half an image"), DataLoss, "cannot be distinguished"),
        (
            "no end in HTTP/1.0",
            b"HTTP/1.0 200 OK\r\n\r\nhalf an image".to_vec(),
            DataLoss,
            "cannot be distinguished",
        ),
        (
            "a length that is not reached",
            answer("content-length: 9\r\n", b"half"),
            DataLoss,
            "broke off",
        ),
        (
            "chunks without the last",
            answer("transfer-encoding: chunked\r\n", b"4\r\nhalf\r\n"),
            DataLoss,
            "broke off",
        ),
        (
            "a chunk cut short",
            answer("transfer-encoding: chunked\r\n", b"9\r\nhalf"),
            DataLoss,
            "broke off",
        ),
        (
            "compressed, cut, without a length",
            answer("", &gzip[..gzip.len() - 5]),
            DataLoss,
            "before the image did",
        ),
        (
            "a coding of the transfer",
            answer("transfer-encoding: gzip, chunked\r\n", b"0\r\n\r\n"),
            FailedPrecondition,
            "gzip, chunked",
        ),
        (
            "two lengths",
            answer("content-length: 4\r\ncontent-length: 5\r\n", b"half"),
            Unavailable,
            "broke",
        ),
        (
            "deflate",
            answer("content-encoding: deflate\r\ncontent-length: 4\r\n", b"\x78\x9c\0\0"),
            FailedPrecondition,
            "`deflate`",
        ),
        (
            "brotli",
            answer("content-encoding: br\r\ncontent-length: 4\r\n", b"\x78\x9c\0\0"),
            FailedPrecondition,
            "`br`",
        ),
        (
            "two codings",
            answer("content-encoding: gzip, gzip\r\ncontent-length: 4\r\n", b"\x1f\x8b\0\0"),
            FailedPrecondition,
            "`gzip, gzip`",
        ),
        (
            "a coding that it has not",
            answer("content-encoding: gzip\r\ncontent-length: 5\r\n", b"plain"),
            DataLoss,
            "compressed data",
        ),
        (
            "a coding that is cut",
            answer("content-encoding: gzip\r\ncontent-length: 200\r\n", &gzip[..200]),
            DataLoss,
            "ends early",
        ),
        (
            "a login page",
            answer("content-type: text/html; charset=utf-8\r\ncontent-length: 37\r\n", html),
            FailedPrecondition,
            "text/html",
        ),
        (
            "a page that is said to be a file",
            answer("content-type: application/octet-stream\r\ncontent-length: 37\r\n", html),
            FailedPrecondition,
            "a page",
        ),
        (
            "an error as JSON",
            answer(
                "content-type: application/json\r\ncontent-length: 15\r\n",
                b"{\"error\": \"no\"}",
            ),
            FailedPrecondition,
            "json",
        ),
        (
            "an error as text",
            answer("content-type: text/plain\r\ncontent-length: 12\r\n", b"no such file"),
            FailedPrecondition,
            "a short text (text/plain), not with an image: `no such file`",
        ),
        ("nothing", answer("content-length: 0\r\n", b""), DataLoss, "is empty"),
        (
            "nothing, in chunks",
            answer("transfer-encoding: chunked\r\n", b"0\r\n\r\n"),
            DataLoss,
            "is empty",
        ),
        (
            "a part",
            b"HTTP/1.1 206 Partial Content\r\ncontent-length: 4\r\n\r\nhalf".to_vec(),
            FailedPrecondition,
            "206",
        ),
        ("no content", b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), FailedPrecondition, "204"),
        (
            "another protocol",
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec(),
            FailedPrecondition,
            "101",
        ),
        (
            "not found",
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
            NotFound,
            "404",
        ),
        (
            "forbidden",
            b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n".to_vec(),
            PermissionDenied,
            "403",
        ),
        (
            "a redirect to nowhere",
            b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
            Unavailable,
            // In the words of the exporter in Python, by which its users know it.
            "without a location: missing Location header",
        ),
        (
            "an endless redirect",
            b"HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n".to_vec(),
            Unavailable,
            "10 times: Too many redirects",
        ),
        ("no answer", Vec::new(), Unavailable, "broke"),
        ("no HTTP", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), Unavailable, "broke"),
        ("HTTP/0.9", b"\xeb\x63\x90 an image at once".to_vec(), Unavailable, "broke"),
    ] {
        let error = fetch(&server(answer).await).await.unwrap_err();
        let report = error.report();
        assert_eq!(error.kind(), kind, "{what}: {report}");
        assert!(report.contains(said) && !report.contains("s3cret"), "{what}: {report}");
    }
}

#[tokio::test]
async fn whole_images_are_taken_however_they_are_sent() {
    let image = vec![7; 300_000];
    let gzip = compressed(Encoding::Gzip, &image).await;
    let zstd = compressed(Encoding::Zstd, &image).await;
    let length = |bytes: &[u8]| format!("content-length: {}\r\n", bytes.len());
    let coded = |coding: &str, bytes: &[u8]| {
        answer(&format!("content-encoding: {coding}\r\n{}", length(bytes)), bytes)
    };
    for (what, answer, expected) in [
        ("a length", answer(&length(&image), &image), &image[..]),
        ("the same length twice", answer(&length(b"hello").repeat(2), b"hello"), b"hello"),
        (
            "chunks",
            answer("transfer-encoding: Chunked\r\n", b"5;x=y\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"),
            b"hello",
        ),
        (
            "interim answers first",
            [&b"HTTP/1.1 103 Early Hints\r\n\r\n"[..], &answer(&length(b"hello"), b"hello")]
                .concat(),
            b"hello",
        ),
        ("compressed, without a length", answer("", &gzip), &gzip),
        ("in gzip", coded("x-gzip", &gzip), &image),
        ("in zstd", coded("identity, ZSTD", &zstd), &image),
        ("in gzip, without a length", answer("content-encoding: gzip\r\n", &gzip), &image),
        (
            "an image that is said to be a page",
            answer("content-type: text/html\r\ncontent-length: 8\r\n", b"\xeb\x63\x90\0\0\0\0\0"),
            b"\xeb\x63\x90\0\0\0\0\0",
        ),
        (
            "a text of a sector",
            answer("content-type: text/plain\r\ncontent-length: 512\r\n", &[b'x'; 512]),
            &[b'x'; 512],
        ),
        (
            "a short image that is said to be text",
            answer("content-type: text/plain\r\ncontent-length: 5\r\n", b"\0ello"),
            b"\0ello",
        ),
    ] {
        let fetched = fetch(&server(answer).await)
            .await
            .unwrap_or_else(|error| panic!("{what}: {}", error.report()));
        assert!(fetched == expected, "{what}: {} bytes", fetched.len());
    }
}

#[tokio::test]
async fn a_digest_proves_the_end() {
    let url = server(answer("", b"hello")).await;
    let request = ImageRequest::new(&url).unwrap();
    assert_eq!(
        read(download(request.clone().checked(), DEADLINE).unwrap()).await.unwrap(),
        b"hello"
    );
    assert_eq!(
        read(download(request, DEADLINE).unwrap()).await.unwrap_err().kind(),
        ErrorKind::DataLoss
    );
    // The request keeps the digest of a wish that was taken.
    let right = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let mut source = ImageSource::url(&url).unwrap().expect_sha256(right).unwrap();
    drop(source.take_wishes());
    assert_eq!(read(source).await.unwrap(), b"hello");
    let mut source = ImageSource::url(&url).unwrap().expect_sha256("0".repeat(64)).unwrap();
    drop(source.take_wishes());
    assert_eq!(read(source).await.unwrap_err().kind(), ErrorKind::DataLoss);
    let (mut source, _) = ImageSource::url(&url).unwrap().report_sha256();
    drop(source.take_wishes());
    assert_eq!(read(source).await.unwrap_err().kind(), ErrorKind::DataLoss);
}

#[tokio::test]
async fn a_digest_proves_a_short_text() {
    let text = answer("content-type: text/plain\r\ncontent-length: 5\r\n", b"hello");
    let request = ImageRequest::new(server(text).await).unwrap();
    let read = read(download(request.checked(), DEADLINE).unwrap()).await;
    assert_eq!(read.unwrap(), b"hello");
}

#[tokio::test]
async fn a_compressed_file_stays_as_it_is_though_its_server_calls_that_a_coding() {
    let gzip = compressed(Encoding::Gzip, &vec![7; 300_000]).await;
    let url = server(answer(
        &format!("content-encoding: x-gzip\r\ncontent-length: {}\r\n", gzip.len()),
        &gzip,
    ))
    .await;
    assert!(fetch(&url.replace("os.img", "os.img.GZ")).await.unwrap() == gzip);
}

#[tokio::test]
async fn a_plain_file_is_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    for (given, expected) in
        [(None, "accept-encoding: identity\r\n"), (Some("zstd"), "accept-encoding: zstd\r\n")]
    {
        let request = ImageRequest::new(&url).unwrap();
        let request = given
            .into_iter()
            .fold(request, |request, given| request.with_header("Accept-Encoding", given));
        let serving = async {
            let (asked, mut stream) = head(&listener).await;
            assert!(asked.contains(expected), "{asked}");
            stream.write_all(&answer("content-length: 5\r\n", b"hello")).await.unwrap();
        };
        let ((), fetched) = tokio::join!(serving, read(download(request, DEADLINE).unwrap()));
        assert_eq!(fetched.unwrap(), b"hello");
    }
}

#[tokio::test]
async fn given_headers_stay_at_their_origin() {
    let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let second = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let [here, there] = [&first, &second].map(|listener| listener.local_addr().unwrap());
    let to = |location: String| {
        format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")
    };
    let secret = "x-vault-token: s3cret\r\n";
    let serving = async {
        let (asked, mut stream) = head(&first).await;
        assert!(asked.starts_with("get /a ") && asked.contains(secret), "{asked}");
        stream.write_all(to("/b".to_owned()).as_bytes()).await.unwrap();
        let (asked, mut stream) = head(&first).await;
        assert!(asked.starts_with("get /b ") && asked.contains(secret), "{asked}");
        stream.write_all(to(format!("http://{there}/c")).as_bytes()).await.unwrap();
        let (asked, mut stream) = head(&second).await;
        assert!(
            asked.starts_with("get /c ") && !asked.contains("s3cret") && !asked.contains("custom"),
            "{asked}"
        );
        // Back again: a server that redirects there may choose the fate of the headers.
        stream.write_all(to(format!("http://{here}/d")).as_bytes()).await.unwrap();
        let (asked, mut stream) = head(&first).await;
        assert!(asked.starts_with("get /d ") && !asked.contains("s3cret"), "{asked}");
        stream.write_all(&answer("content-length: 5\r\n", b"hello")).await.unwrap();
    };
    let request = ImageRequest::new(format!("http://{here}/a")).unwrap();
    let request =
        request.with_header("X-Vault-Token", "s3cret").with_header("User-Agent", "custom");
    let ((), fetched) = tokio::join!(serving, read(download(request, DEADLINE).unwrap()));
    assert_eq!(fetched.unwrap(), b"hello");
}

#[tokio::test]
async fn locations_with_raw_text_lead_where_browsers_go() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/dir/x", listener.local_addr().unwrap());
    let serving = async {
        let (_, mut stream) = head(&listener).await;
        let location = "grün image.img?name=a b&sig=%2b%2F";
        let moved =
            format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(moved.as_bytes()).await.unwrap();
        let (asked, mut stream) = head(&listener).await;
        assert!(
            asked.starts_with("get /dir/gr%c3%bcn%20image.img?name=a%20b&sig=%2b%2f http"),
            "{asked}"
        );
        stream.write_all(&answer("content-length: 5\r\n", b"hello")).await.unwrap();
    };
    let ((), fetched) = tokio::join!(serving, fetch(&url));
    assert_eq!(fetched.unwrap(), b"hello");
}

#[tokio::test]
async fn both_families_of_localhost_are_tried() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
    let serving = async {
        let (_, mut stream) = head(&listener).await;
        stream.write_all(&answer("content-length: 5\r\n", b"hello")).await.unwrap();
    };
    let ((), fetched) = tokio::join!(serving, fetch(&url));
    assert_eq!(fetched.unwrap(), b"hello");
}

/// What a server without end does: `first`, then `again` for ever.
async fn endless(first: &'static [u8], again: Vec<u8>) -> Error {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serving = async {
        let (_, mut stream) = head(&listener).await;
        stream.write_all(first).await.unwrap();
        while stream.write_all(&again).await.is_ok() {}
    };
    let ((), fetched) = tokio::join!(serving, fetch(&url));
    fetched.unwrap_err()
}

#[tokio::test]
async fn what_has_no_end_is_given_up() {
    let interim = b"HTTP/1.1 102 Processing\r\n\r\n".repeat(1000);
    let error = endless(b"", interim).await;
    assert!(error.report().contains("interim answers"), "{}", error.report());

    let error = endless(b"HTTP/1.1 200 OK\r\n", b"x-more: of it\r\n".repeat(1000)).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());

    let error = endless(b"HTTP/1.1 200 OK\r\nx: ", vec![b'x'; 10_000]).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());

    let chunks = b"1\r\nx\r\n".repeat(1000);
    let error = endless(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", chunks).await;
    assert_eq!(error.kind(), ErrorKind::DataLoss, "{}", error.report());
    assert!(error.report().contains("pieces of 1 bytes"), "{}", error.report());
}

#[tokio::test]
async fn a_drip_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serving = async {
        let (_, mut stream) = head(&listener).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await.unwrap();
        stream.write_all(&[b'x'; 600]).await.unwrap();
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        while stream.write_all(b"x").await.is_ok() {
            tick.tick().await;
        }
    };
    // The first bytes are enough for one such time, and not for a second one.
    let source = download(ImageRequest::new(url).unwrap(), Duration::from_secs(4)).unwrap();
    let reading = tokio::time::timeout(DEADLINE, source.into_stream().try_collect::<Vec<_>>());
    let ((), fetched) = tokio::join!(serving, async { reading.await.unwrap() });
    let error = Error::from(fetched.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{}", error.report());
    assert!(error.report().contains("bytes came in"), "{}", error.report());
}
