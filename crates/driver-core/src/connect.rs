//! TCP connections to the address of a host that answers first.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

/// How long an address may take to answer until the next one is tried beside it (RFC 8305).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Connects to the address that answers first, without Nagle's delay.
///
/// The next address is tried as soon as one fails or has not answered for 250 ms, so that a silent
/// one does not hold up the others.
///
/// # Errors
/// What became of each address, once all have failed or at the deadline.
pub async fn connect_first(
    addresses: &[SocketAddr],
    deadline: Option<Instant>,
) -> Result<TcpStream, NotConnected> {
    let mut left = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut failures = Vec::new();
    while failures.len() < addresses.len() {
        if let Some(&address) = left.next() {
            attempts.push(async move {
                let connected = TcpStream::connect(address).await;
                (address, connected.and_then(|stream| stream.set_nodelay(true).map(|()| stream)))
            });
        }
        let next = (left.len() > 0).then(|| Instant::now() + NEXT_ADDRESS);
        let waits_until = next.into_iter().chain(deadline).min();
        let waiting = async {
            match waits_until {
                Some(end) => sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some((address, attempt)) = attempts.next() => match attempt {
                Ok(stream) => return Ok(stream),
                Err(error) => failures.push((address, error)),
            },
            () = waiting => if deadline.is_some_and(|end| Instant::now() >= end) { break },
        }
    }
    let silent =
        addresses.iter().filter(|one| failures.iter().all(|(failed, _)| failed != *one)).copied();
    let silent = silent.collect();
    Err(NotConnected { failures, silent })
}

/// Why none of the addresses of a host is connected. `Display` says what became of each.
#[derive(Debug)]
pub struct NotConnected {
    failures: Vec<(SocketAddr, io::Error)>,
    silent: Vec<SocketAddr>,
}

impl fmt::Display for NotConnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.failures.iter().map(|(address, error)| format!("{address}: {error}"));
        let silent = self.silent.iter().map(|address| format!("{address}: no answer"));
        let outcomes: Vec<String> = failed.chain(silent).collect();
        match outcomes.is_empty() {
            true => f.write_str("the host has no address"),
            false => f.write_str(&outcomes.join("; ")),
        }
    }
}

impl std::error::Error for NotConnected {}

/// The error of the address that failed first.
impl From<NotConnected> for io::Error {
    fn from(error: NotConnected) -> Self {
        match error.failures.into_iter().next() {
            Some((_, first)) => first,
            None if error.silent.is_empty() => Self::other("the host has no address"),
            None => Self::new(io::ErrorKind::TimedOut, "no address of the host answers"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline_after;
    use tokio::net::{TcpListener, TcpSocket};

    /// An address that does not answer: its queue of connections is full, and the kernel drops
    /// further attempts. It holds as long as the guards do.
    async fn silent() -> (SocketAddr, impl Sized) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let listener = socket.listen(0).unwrap();
        let mut queued = Vec::new();
        let full = Duration::from_millis(200);
        while let Ok(stream) = tokio::time::timeout(full, TcpStream::connect(address)).await {
            queued.push(stream.unwrap());
        }
        (address, (listener, queued))
    }

    /// Where nothing listens: no server uses the port, and the kernel gives it to no socket.
    const NOBODY: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

    #[tokio::test]
    async fn an_address_that_hangs_or_refuses_does_not_hold_up_the_others() {
        let (hanging, _full) = silent().await;
        let closed = NOBODY;
        let listener = TcpListener::bind("[::1]:0").await.unwrap();
        let listens = listener.local_addr().unwrap();
        for addresses in [vec![hanging, closed, listens], vec![closed, listens], vec![listens]] {
            let connecting = connect_first(&addresses, None);
            let stream = tokio::time::timeout(Duration::from_secs(60), connecting).await;
            let stream = stream.expect("the hanging one is not waited for").unwrap();
            assert_eq!(stream.peer_addr().unwrap(), listens, "{addresses:?}");
            assert!(stream.nodelay().unwrap());
        }
    }

    #[tokio::test]
    async fn the_error_says_what_became_of_each_address() {
        let (hanging, _full) = silent().await;
        let closed = NOBODY;
        // The second address is tried long before it.
        let deadline = deadline_after(Duration::from_secs(3));
        let error = connect_first(&[hanging, closed], Some(deadline)).await.unwrap_err();
        let said = error.to_string();
        assert!(said.contains(&format!("{closed}: Connection refused")), "{said}");
        assert!(said.contains(&format!("{hanging}: no answer")), "{said}");
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::ConnectionRefused);
        let none = connect_first(&[], None).await.unwrap_err();
        assert_eq!(none.to_string(), "the host has no address");
    }
}
