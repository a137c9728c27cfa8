//! Servers that answer as a test wants.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a server answers to the path and the body of a request: the head's end, and the body.
type Answer = dyn Fn(&str, &str) -> (String, String) + Send + Sync;

/// Starts a server; its address.
pub async fn serve(
    answer: impl Fn(&str, &str) -> (String, String) + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    run(listener, answer);
    format!("http://{address}")
}

fn run(
    listener: TcpListener,
    answer: impl Fn(&str, &str) -> (String, String) + Send + Sync + 'static,
) {
    let answer: Arc<Answer> = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move { converse(stream, &*answer).await });
        }
    });
}

async fn converse(mut stream: TcpStream, answer: &Answer) {
    let mut request = Vec::new();
    let (head, body) = loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_ascii_lowercase();
            let length = length.split("content-length: ").nth(1).unwrap_or("0");
            let length: usize = length.lines().next().unwrap().trim().parse().unwrap();
            if body.len() >= length {
                break (head.to_owned(), body.to_owned());
            }
        }
        if stream.read_buf(&mut request).await.unwrap() == 0 {
            return;
        }
    };
    let path = head.split(' ').nth(1).unwrap();
    let (status, text) = answer(path, &body);
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{text}", text.len());
    // The client may have seen enough.
    stream.write_all(text.as_bytes()).await.ok();
}

pub fn ok(value: &Value) -> (String, String) {
    ("200 OK".to_owned(), value.to_string())
}

/// A provider whose document has these changes, and whose other answers are `answer`'s:
/// it gets the issuer, the path and the body.
pub async fn provider(
    change: impl Fn(&mut Value, &str) + Send + Sync + 'static,
    answer: impl Fn(&str, &str, &str) -> (String, String) + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("http://{}", listener.local_addr().unwrap());
    let own = issuer.clone();
    let answer = move |path: &str, body: &str| {
        if path != "/.well-known/openid-configuration" {
            return answer(&own, path, body);
        }
        let mut document = json!({
            "issuer": own, "authorization_endpoint": format!("{own}/auth"),
            "token_endpoint": format!("{own}/token"),
            "device_authorization_endpoint": format!("{own}/device"),
        });
        change(&mut document, &own);
        ok(&document)
    };
    run(listener, answer);
    issuer
}
