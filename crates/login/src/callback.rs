//! The listener that the browser comes back to: on 127.0.0.1, for one answer.

use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jumpstarter_driver_core::{Error, Result, ResultExt};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The longest head of a request.
const MAX_HEAD: usize = 16 << 10;
/// How long a browser may take to send it.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// Browsers open connections that they do not use: so many wait at once.
const MAX_VISITS: usize = 16;

/// A listener for the answer to one login.
#[derive(Debug)]
pub(crate) struct Callback {
    listener: TcpListener,
    port: u16,
    state: String,
    issuer: String,
}

impl Callback {
    /// Listens on 127.0.0.1 for the answer with this `state`.
    pub(crate) async fn listen(port: u16, state: String, issuer: String) -> Result<Self> {
        let doing = || format!("listening for the browser at 127.0.0.1:{port}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = listener.with_context(doing).map_err(|error| {
            error.with_hint("choose another port with --callback-port, or add --device-flow")
        })?;
        let port = listener.local_addr().with_context(doing)?.port();
        Ok(Self { listener, port, state, issuer })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn state(&self) -> &str {
        &self.state
    }

    /// Waits for the answer and returns its code. Other requests are refused, and change nothing.
    pub(crate) async fn code(&self) -> Result<String> {
        let mut visits = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if visits.len() < MAX_VISITS => match accepted {
                    Ok((stream, _)) => visits.push(self.visit(stream)),
                    Err(error) => {
                        tracing::debug!(%error, "a connection of the browser failed");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(Some(outcome)) = visits.next() => return outcome,
            }
        }
    }

    /// Answers one request; `None` for one that is no answer to this login.
    async fn visit(&self, mut stream: TcpStream) -> Option<Result<String>> {
        let head = tokio::time::timeout(HEAD_LIMIT, head(&mut stream)).await.ok()??;
        let outcome = self.judge(&head);
        let (status, text) = match &outcome {
            Some(Ok(_)) => ("200 OK", "The login is complete. You can close this page."),
            Some(Err(_)) => ("200 OK", "The login failed. The terminal says why."),
            None => ("404 Not Found", "This page is only for the answer of a login."),
        };
        let page = format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
             cache-control: no-store\r\nreferrer-policy: no-referrer\r\nconnection: close\r\n\r\n{text}",
            text.len()
        );
        // The browser may be gone: the answer counts.
        let sending = async {
            stream.write_all(page.as_bytes()).await?;
            stream.shutdown().await
        };
        tokio::time::timeout(HEAD_LIMIT, sending).await.ok();
        outcome
    }

    /// What a request means to this login.
    fn judge(&self, head: &str) -> Option<Result<String>> {
        let mut words = head.lines().next()?.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let query = target.strip_prefix("/callback?").filter(|_| method == "GET")?;
        let field = |name: &str| field(query, name);
        if field("state")? != self.state {
            return None;
        }
        if field("iss").is_some_and(|issuer| issuer != self.issuer) {
            let error = Error::permission_denied("the answer is of another OpenID provider");
            return Some(Err(error.with_hint("log in again, in another window of the browser")));
        }
        if let Some(error) = field("error") {
            let why = field("error_description").map(|why| format!(": {why}")).unwrap_or_default();
            let said = format!("it refuses: {error}{why}");
            let said = jumpstarter_text::truncated(&said, 300);
            let error = Error::permission_denied(jumpstarter_text::line(&said));
            return Some(Err(error.with_hint("log in again, and agree")));
        }
        let code = field("code").filter(|code| !code.is_empty());
        Some(code.ok_or_else(|| Error::invalid_argument("the answer of the browser has no code")))
    }
}

/// The head of a request.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
        if bytes.len() > MAX_HEAD || stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    String::from_utf8(bytes).ok()
}

/// The first field of a query with this name.
fn field(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.into_iter().find(|(key, _)| *key == name)?;
    let value = value.replace('+', " ");
    percent_decode_str(&value).decode_utf8().ok().map(|value| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn request(port: u16, target: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let head = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn callback() -> Callback {
        Callback::listen(0, "s1".to_owned(), "https://a.example".to_owned()).await.unwrap()
    }

    #[tokio::test]
    async fn only_the_answer_to_this_login_counts() {
        let callback = callback().await;
        let port = callback.port();
        let _idle = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let browsing = async {
            for target in [
                "/favicon.ico",
                "/callback",
                "/callback?code=c&state=s2",
                "/callback?code=c",
                "/callbackx?code=c&state=s1",
                "/callback?error=access_denied",
                "/callback?code=c&state=s2&state=s1",
            ] {
                let answer = request(port, target).await;
                assert!(answer.starts_with("HTTP/1.1 404 "), "{target}: {answer}");
            }
            request(port, "/callback?code=a%2Bb+c&state=s1&iss=https%3A%2F%2Fa.example").await
        };
        let (answer, code) = tokio::join!(browsing, callback.code());
        assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("a+b"), "{answer}");
        assert_eq!(code.unwrap(), "a+b c");
        drop(callback);
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err());
    }

    #[tokio::test]
    async fn a_refusal_is_reported() {
        let callback = callback().await;
        let head = |query: &str| format!("GET /callback?state=s1&{query} HTTP/1.1\r\n\r\n");
        let fails = |query: &str| callback.judge(&head(query)).unwrap().unwrap_err().report();
        let report = fails("error=access_denied&error_description=not+you%1b%5b2J");
        assert!(
            report.contains("access_denied: not you") && !report.contains('\u{1b}'),
            "{report}"
        );
        assert!(fails("code=c&iss=https://evil.example").contains("another OpenID provider"));
        assert!(fails("x=y").contains("no code"));
        assert!(callback.judge("POST /callback?state=s1&code=c HTTP/1.1\r\n\r\n").is_none());
    }

    #[tokio::test]
    async fn a_port_in_use_is_reported() {
        let first = callback().await;
        let second = Callback::listen(first.port(), String::new(), String::new()).await;
        let report = second.unwrap_err().report();
        assert!(report.contains("127.0.0.1") && report.contains("--callback-port"), "{report}");
    }
}
