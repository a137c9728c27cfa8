//! A short run of what the fuzz target `http_client` does at length: answers of servers with a few
//! things wrong.

use std::time::Instant;

use super::*;
use crate::fuzzing::{Outcome, answered};

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

/// Numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end.max(1)
    }

    fn answer(&mut self) -> Vec<u8> {
        let mut answer = ANSWERS[self.below(ANSWERS.len())].as_bytes().to_vec();
        for _ in 0..=self.below(3) {
            let (at, other) = (self.below(answer.len()), self.below(answer.len()));
            let (from, to) = (at.min(other), at.max(other));
            match self.below(6) {
                0 if !answer.is_empty() => answer[at] ^= 1 << self.below(8),
                1 if !answer.is_empty() => answer[at] = b"\r\n :0\0\xff"[self.below(7)],
                2 => answer.insert(at.min(answer.len()), b"\r\n ;,9"[self.below(6)]),
                3 => drop(answer.drain(from..to.min(from + 12))),
                4 => answer.extend_from_within(from..to),
                _ => {
                    let other = ANSWERS[self.below(ANSWERS.len())].as_bytes();
                    answer.truncate(at);
                    answer.extend_from_slice(&other[self.below(other.len())..]);
                }
            }
        }
        answer
    }
}

#[tokio::test]
async fn no_beginning_of_a_wrong_answer_is_an_image() {
    let (mut random, started) = (Random(0x9e37_79b9_7f4a_7c15), Instant::now());
    while started.elapsed() < TIME {
        let (answer, piece) = (random.answer(), 1 + random.below(40));
        let text = || String::from_utf8_lossy(&answer).into_owned();
        let ask = async |answer: &[u8]| {
            let asked = tokio::time::timeout(DEADLINE, answered(URL, answer, piece, LIMIT));
            asked.await.unwrap_or_else(|_| panic!("no end: {}", text()))
        };
        match ask(&answer).await {
            Err(error) => assert!(!error.report().contains("s3cret"), "{}", text()),
            Ok(Outcome::Redirect(_)) => {}
            Ok(Outcome::Image(whole)) => {
                let cut = random.below(answer.len());
                if let Ok(Outcome::Image(part)) = ask(&answer[..cut]).await {
                    assert_eq!(part, whole, "{cut} bytes of {}", text());
                }
            }
        }
    }
}
