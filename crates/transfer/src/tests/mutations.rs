//! A short run of what the fuzz target `http_client` does at length: answers of servers with a few
//! things wrong.

use std::time::Instant;

use super::*;
use crate::fuzzing::{Outcome, answered};
use jumpstarter_driver_testkit::damage::{damaged, random};

const URL: &str = "https://images.example/dir/os.img?sig=s3cret";
const TIME: Duration = Duration::from_secs(1);
const LIMIT: usize = 1 << 20;

const ANSWERS: &[&str] = &[
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\ncontent-type: text/plain; x=y\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nt: r\r\n\r\n",
    "HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 12\r\n\r\n0123456789ab",
    "HTTP/1.1 302 Found\r\nlocation: //other.example:81/a%2fb c?d#e\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 307 Temporary\r\nlocation: ../../x\\y?z\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 206 Partial\r\ncontent-range: bytes 0-4/9\r\ncontent-length: 5\r\n\r\nhello",
];

/// One with a few things wrong; some go on as another.
fn answer(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut any = || random.choice(ANSWERS).map_or(&b""[..], |answer| answer.as_bytes());
    let (mut answer, other) = (any().to_vec(), any());
    if random.u8(..4) == 0 {
        answer.truncate(random.usize(..answer.len()));
        answer.extend_from_slice(&other[random.usize(..other.len())..]);
    }
    damaged(&answer, b"\r\n :;,09\0\xff", random)
}

#[tokio::test]
async fn no_beginning_of_a_wrong_answer_is_an_image() {
    let (mut random, started) = (random(), Instant::now());
    while started.elapsed() < TIME {
        let (answer, piece) = (answer(&mut random), random.usize(1..=40));
        let text = || String::from_utf8_lossy(&answer).into_owned();
        let ask = async |answer: &[u8]| {
            let asked = tokio::time::timeout(DEADLINE, answered(URL, answer, piece, LIMIT));
            asked.await.unwrap_or_else(|_| panic!("no end: {}", text()))
        };
        match ask(&answer).await {
            Err(error) => assert!(!error.report().contains("s3cret"), "{}", text()),
            Ok(Outcome::Redirect(_)) => {}
            Ok(Outcome::Image(whole)) => {
                let cut = random.usize(..answer.len().max(1));
                if let Ok(Outcome::Image(part)) = ask(&answer[..cut]).await {
                    assert_eq!(part, whole, "{cut} bytes of {}", text());
                }
            }
        }
    }
}
