//! The port at which requests arrive.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jumpstarter_files::ConfinedFolder;
use tokio::net::UdpSocket;
use tokio::task::{AbortHandle, Id, JoinSet};

use crate::packet::{Code, Packet, Refusal, error, refuse};
use crate::transfer;

/// The largest request, in bytes; RFC 2347 allows 512.
const MAX_REQUEST: usize = 2048;
/// The most transfers at a time.
const MAX_TRANSFERS: usize = 64;
/// The pause after a failure to receive.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Answers requests until it is dropped, which ends its transfers.
pub(crate) async fn serve(socket: UdpSocket, folder: Arc<ConfinedFolder>) {
    let mut transfers = Transfers::default();
    // One byte more than the largest request: what is longer is seen.
    let mut buffer = vec![0; MAX_REQUEST + 1];
    loop {
        tokio::select! {
            Some(ended) = transfers.tasks.join_next_with_id() => {
                let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                transfers.by_client.retain(|_, task| task.id() != id);
            }
            received = socket.recv_from(&mut buffer) => match received {
                Ok((length, client)) => {
                    let packet = &buffer[..length];
                    if let Err(refusal) = transfers.begin(packet, client, &socket, &folder) {
                        tracing::info!(%client, "refused over TFTP: {refusal}");
                        // The client sends its request again if this is lost.
                        drop(socket.try_send_to(&error(&refusal), client));
                    }
                }
                Err(error) => {
                    // Also what an earlier answer met: a client whose port is closed.
                    tracing::debug!(%error, "receiving a request");
                    tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                }
            },
        }
    }
}

#[derive(Default)]
struct Transfers {
    tasks: JoinSet<()>,
    by_client: HashMap<SocketAddr, Task>,
}

struct Task(AbortHandle);

impl Task {
    fn id(&self) -> Id {
        self.0.id()
    }
}

impl Transfers {
    fn begin(
        &mut self,
        packet: &[u8],
        client: SocketAddr,
        socket: &UdpSocket,
        folder: &Arc<ConfinedFolder>,
    ) -> Result<(), Refusal> {
        if packet.len() > MAX_REQUEST {
            return Err(refuse(Code::Illegal, "the request is too long"));
        }
        let request = match Packet::read(packet)? {
            Packet::Read(request) => request,
            Packet::Write => return Err(refuse(Code::Access, "this server is read-only")),
            Packet::Ack(_) | Packet::Misplaced => {
                return Err(refuse(Code::UnknownTransfer, "there is no such transfer"));
            }
            // No error is answered by an error.
            Packet::Error { .. } => return Ok(()),
        };
        // The client sends its request again while its answer is on the way.
        if self.by_client.contains_key(&client) {
            return Ok(());
        }
        if self.by_client.len() >= MAX_TRANSFERS {
            return Err(refuse(Code::Other, "the server is busy, try again later"));
        }
        let local = socket.local_addr().map_err(|error| refuse(Code::Other, error.to_string()))?;
        let transfer = transfer::run(request, client, local.ip(), folder.clone());
        self.by_client.insert(client, Task(self.tasks.spawn(transfer)));
        Ok(())
    }
}
