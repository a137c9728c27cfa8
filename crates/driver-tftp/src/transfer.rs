//! One file on its way to a client.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jumpstarter_driver_core::{Error, ErrorKind, Result, blocking};
use jumpstarter_files::{ConfinedFolder, InnerPath};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use crate::blocks::Blocks;
use crate::options::Options;
use crate::packet::{self, Code, Packet, Refusal, Request, refuse};

/// How long an acknowledgement is awaited at first; then twice as long, and so on.
const FIRST_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest wait for an acknowledgement.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(8);
/// So often a packet is sent before the transfer ends.
const MAX_TRIES: u32 = 6;

/// Sends a file to a client.
pub(crate) async fn run(
    request: Request,
    client: SocketAddr,
    local: IpAddr,
    folder: Arc<ConfinedFolder>,
) {
    let name = request.name.escape_debug().to_string();
    // A port for this transfer alone; packets from elsewhere do not reach it.
    let socket = match connected(local, client).await {
        Ok(socket) => socket,
        Err(error) => return tracing::warn!(%client, %error, "a transfer got no port"),
    };
    match send(request, &socket, folder).await {
        Ok(bytes) => tracing::info!(%client, name, bytes, "sent over TFTP"),
        Err(Ended::Here(refusal)) => {
            tracing::info!(%client, name, "not sent over TFTP: {refusal}");
            // The client notices the end without it, later.
            drop(socket.send(&packet::error(&refusal)).await);
        }
        Err(Ended::There(why)) => tracing::info!(%client, name, "a TFTP transfer ended: {why}"),
    }
}

async fn connected(local: IpAddr, client: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((local, 0)).await?;
    socket.connect(client).await?;
    Ok(socket)
}

/// Why a transfer ended early.
enum Ended {
    /// For a reason that the client gets to know.
    Here(Refusal),
    /// The client ended it, or does not answer.
    There(String),
}

impl From<Refusal> for Ended {
    fn from(refusal: Refusal) -> Self {
        Self::Here(refusal)
    }
}

async fn send(
    request: Request,
    socket: &UdpSocket,
    folder: Arc<ConfinedFolder>,
) -> std::result::Result<u64, Ended> {
    let path = InnerPath::new(&request.name)
        .map_err(|_| refuse(Code::Access, "the name leads out of the folder"))?;
    let opened = blocking(move || {
        let file = folder.read(&path)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    });
    let (file, size) = opened.await.map_err(|error| refused(&error))?;
    let options = Options::new(&request, size);
    let blocks = Blocks::new(file, options.block, request.is_text);
    let mut window =
        Window { blocks: Some(blocks), waiting: VecDeque::new(), first: 1, is_read: false };
    let mut line = Line { socket, timeout: options.timeout };
    if !options.accepted.is_empty() {
        // Its acknowledgement is that of a block 0.
        let accept = [packet::accept(&options.accepted)];
        line.exchange(accept.iter().map(Vec::as_slice), |ack| usize::from(ack == 0)).await?;
    }
    let mut bytes = 0;
    loop {
        window.fill(options.window).await.map_err(|error| refused(&error))?;
        if window.waiting.is_empty() {
            return Ok(bytes);
        }
        let packets = window.waiting.iter().map(Vec::as_slice);
        let count = line.exchange(packets, |ack| window.count(ack)).await?;
        for packet in window.waiting.drain(..count) {
            bytes += packet.len() as u64 - 4;
        }
        window.first += count as u64;
    }
}

fn refused(error: &Error) -> Refusal {
    match error.kind() {
        ErrorKind::NotFound => refuse(Code::NotFound, "there is no such file"),
        // A folder, a device, a link that leads out.
        ErrorKind::InvalidArgument | ErrorKind::PermissionDenied => {
            refuse(Code::Access, "the file is not served")
        }
        _ => refuse(Code::Other, "the file cannot be read"),
    }
}

/// The packets that wait for their acknowledgement.
struct Window {
    /// `None` only while a thread reads.
    blocks: Option<Blocks>,
    waiting: VecDeque<Vec<u8>>,
    /// The number of the first block that waits; on the wire only 16 bits of it.
    first: u64,
    is_read: bool,
}

impl Window {
    /// Reads blocks until so many wait.
    async fn fill(&mut self, count: usize) -> Result<()> {
        let missing = count.saturating_sub(self.waiting.len());
        if self.is_read || missing == 0 {
            return Ok(());
        }
        let mut blocks =
            self.blocks.take().ok_or_else(|| Error::internal("an earlier read did not end"))?;
        let read = blocking(move || {
            let mut found = Vec::new();
            while found.len() < missing
                && let Some(block) = blocks.next()?
            {
                found.push(block);
            }
            Ok((blocks, found))
        });
        let (blocks, found) = read.await?;
        self.blocks = Some(blocks);
        self.is_read = found.len() < missing;
        for block in found {
            let number = self.first + self.waiting.len() as u64;
            self.waiting.push_back(packet::data(number as u16, &block));
        }
        Ok(())
    }

    /// How many of the packets that wait an acknowledgement covers; 0 for an old one.
    fn count(&self, ack: u16) -> usize {
        let covered = ack.wrapping_sub((self.first as u16).wrapping_sub(1));
        let covered = usize::from(covered);
        if covered <= self.waiting.len() { covered } else { 0 }
    }
}

/// The way to the client.
struct Line<'a> {
    socket: &'a UdpSocket,
    timeout: Option<Duration>,
}

impl Line<'_> {
    /// Sends packets until `covered` says of an acknowledgement that some of them arrived, and
    /// returns how many. Old acknowledgements change nothing: answering each would double every
    /// packet from there on.
    async fn exchange<'p>(
        &mut self,
        packets: impl Iterator<Item = &'p [u8]> + Clone,
        covered: impl Fn(u16) -> usize,
    ) -> std::result::Result<usize, Ended> {
        let mut limit = self.timeout.unwrap_or(FIRST_TIMEOUT);
        let mut buffer = [0; 516];
        for _ in 0..MAX_TRIES {
            for packet in packets.clone() {
                self.socket.send(packet).await.map_err(gone)?;
            }
            let end = Instant::now() + limit;
            while let Ok(received) = timeout_at(end, self.socket.recv(&mut buffer)).await {
                let length = received.map_err(gone)?;
                match Packet::read(&buffer[..length]) {
                    Ok(Packet::Ack(ack)) => match covered(ack) {
                        0 => {}
                        count => return Ok(count),
                    },
                    Ok(Packet::Error { code, message }) => {
                        let message = message.escape_debug();
                        return Err(Ended::There(format!("the client says {code}, {message}")));
                    }
                    // What is no acknowledgement changes nothing.
                    _ => {}
                }
            }
            limit = self.timeout.unwrap_or_else(|| (limit * 2).min(LONGEST_TIMEOUT));
        }
        Err(refuse(Code::Other, "no acknowledgement arrived in time").into())
    }
}

fn gone(error: std::io::Error) -> Ended {
    Ended::There(format!("the client does not receive: {error}"))
}
