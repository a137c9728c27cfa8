//! Uploads against servers that do their part well, badly, or not at all.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

use std::time::Duration;

use jumpstarter_driver_core::image::{BoxWriter, ImageRequest};
use jumpstarter_driver_core::{Error, ErrorKind};
use jumpstarter_transfer::upload;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const DEADLINE: Duration = Duration::from_secs(60);

/// A listener, and the URL of `path` at it.
async fn listener(path: &str) -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}{path}", listener.local_addr().unwrap());
    (listener, url)
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

async fn answer(stream: &mut TcpStream, text: &str) {
    stream.write_all(format!("HTTP/1.1 {text}\r\n\r\n").as_bytes()).await.unwrap();
}

fn writer(url: &str, headers: &[(&str, &str)], stall_limit: Duration) -> BoxWriter {
    let request = ImageRequest::new(url).unwrap();
    let request =
        headers.iter().fold(request, |request, (name, value)| request.with_header(*name, *value));
    upload(request, stall_limit).unwrap()
}

async fn sent(mut writer: BoxWriter, image: &[u8]) -> Result<(), Error> {
    let sending = async {
        writer.write_all(image).await?;
        writer.shutdown().await
    };
    tokio::time::timeout(DEADLINE, sending).await.expect("it ends in time").map_err(Error::from)
}

#[tokio::test]
async fn a_given_length_is_what_is_sent() {
    let (listener, url) = listener("/image?sig=s3cret").await;
    for (image, fits) in [("hello", true), ("hell", false), ("hello!", false)] {
        let serving = async {
            let (head, mut stream) = head(&listener).await;
            assert!(head.contains("content-length: 5\r\n") && !head.contains("chunked"), "{head}");
            answer(&mut stream, "100 Continue").await;
            let mut body = [0; 5];
            if stream.read_exact(&mut body).await.is_ok() && fits {
                assert_eq!(&body, b"hello");
                answer(&mut stream, "200 OK\r\ncontent-length: 0").await;
            }
        };
        let writer = writer(&url, &[("Content-Length", "5")], DEADLINE);
        let ((), sent) = tokio::join!(serving, sent(writer, image.as_bytes()));
        match fits {
            true => sent.unwrap(),
            false => {
                let report = sent.unwrap_err().report();
                assert!(
                    report.contains("content-length") && !report.contains("s3cret"),
                    "{report}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_redirect_is_followed_without_given_headers() {
    let (first, url) = listener("/image?sig=one").await;
    let (second, other) = listener("/el%2fsewhere?sig=two").await;
    let serving = async {
        let (asked, mut stream) = head(&first).await;
        assert!(
            asked.contains("expect: 100-continue\r\n") && asked.contains("x-amz-date: now\r\n"),
            "{asked}"
        );
        answer(
            &mut stream,
            &format!("307 Temporary Redirect\r\nlocation: {other}\r\ncontent-length: 0"),
        )
        .await;
        let (asked, mut stream) = head(&second).await;
        assert!(asked.starts_with("put /el%2fsewhere?sig=two http/1.1\r\n"), "{asked}");
        assert!(!asked.contains("x-vault-token") && !asked.contains("x-amz"), "{asked}");
        // Not every server knows the question: it is sent all the same.
        let mut body = Vec::new();
        while !body.ends_with(b"0\r\n\r\n") {
            body.push(stream.read_u8().await.unwrap());
        }
        assert_eq!(body, b"5\r\nhello\r\n0\r\n\r\n");
        answer(&mut stream, "201 Created\r\ncontent-length: 0").await;
    };
    let writer = writer(&url, &[("x-amz-date", "now"), ("x-vault-token", "s3cret")], DEADLINE);
    let ((), sent) = tokio::join!(serving, sent(writer, b"hello"));
    sent.unwrap();
}

#[tokio::test]
async fn a_server_that_takes_nothing_is_given_up() {
    let (listener, url) = listener("/").await;
    let image = vec![0; 64 << 20];
    let (connected, sent) =
        tokio::join!(listener.accept(), sent(writer(&url, &[], Duration::from_secs(1)), &image));
    let error = sent.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error:?}");
    assert!(error.report().contains("took nothing for 1 s"), "{error:?}");
    drop(connected);
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let (listener, url) = listener("/").await;
    let mut writer = writer(&url, &[], DEADLINE);
    let serving = tokio::spawn(async move {
        let (_, mut stream) = head(&listener).await;
        answer(&mut stream, "100 Continue").await;
        let mut body = Vec::new();
        while !body.ends_with(b"0\r\n\r\n") {
            body.push(stream.read_u8().await.unwrap());
        }
        // It has everything. From here on nothing but time passes.
        tokio::time::pause();
        stream
    });
    writer.write_all(b"hello").await.unwrap();
    let error = Error::from(writer.shutdown().await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error:?}");
    assert!(error.report().contains("did not answer for 300 s"), "{error:?}");
    drop(serving.await.unwrap());
}

#[tokio::test]
async fn a_refusal_before_the_end_is_told() {
    let (listener, url) = listener("/?sig=s3cret").await;
    let serving = async {
        let (_, mut stream) = head(&listener).await;
        answer(&mut stream, "403 Forbidden\r\ncontent-length: 0\r\nconnection: close").await;
        stream
    };
    let image = vec![0; 8 << 20];
    let (_stream, sent) = tokio::join!(serving, sent(writer(&url, &[], DEADLINE), &image));
    let error = sent.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
    assert!(!error.report().contains("s3cret"), "{error:?}");
}

/// A server of pages answers every request with one, and 200.
#[tokio::test]
async fn a_page_does_not_say_that_the_image_is_stored() {
    for (status, is_stored) in [("200 OK", false), ("201 Created", true)] {
        let (listener, url) = listener("/?sig=s3cret").await;
        let serving = async {
            let (_, mut stream) = head(&listener).await;
            let mut body = Vec::new();
            while !body.ends_with(b"0\r\n\r\n") {
                body.push(stream.read_u8().await.unwrap());
            }
            let page = "content-type: text/html; charset=utf-8\r\ncontent-length: 0";
            answer(&mut stream, &format!("{status}\r\n{page}")).await;
        };
        let writer = writer(&url, &[], DEADLINE);
        let ((), sent) = tokio::join!(serving, sent(writer, b"hello"));
        assert_eq!(sent.is_ok(), is_stored, "{status}: {sent:?}");
        if let Err(error) = sent {
            assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
            let report = error.report();
            assert!(report.contains("a page") && !report.contains("s3cret"), "{report}");
        }
    }
}
