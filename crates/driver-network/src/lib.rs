//! Network drivers, and tools for networks.
//!
//! Drivers: `tcp` ([`TcpNetwork`]), `udp` ([`UdpNetwork`]), `unix` ([`UnixNetwork`]), `vsock`
//! ([`VsockNetwork`]), `dbus` ([`DbusNetwork`]), `echo` ([`EchoNetwork`]) and, with the cargo
//! feature `websocket`, `websocket` (`WebsocketNetwork`). Each is also a plain type with a
//! constructor, as a part of other drivers.
//!
//! For any local or remote [`Network`](jumpstarter_driver_core::Network): [`PortForward`] makes it
//! a local port or socket, [`Conversation`] sends and receives as a program would, and [`check`]
//! shows whether it is reachable.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use jumpstarter_driver_network::{Conversation, EchoNetwork, PortForward, TcpNetwork};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> jumpstarter_driver_core::Result<()> {
//! let forward = PortForward::tcp(Arc::new(EchoNetwork::new())).await?;
//! let network = TcpNetwork::from_address(forward.tcp_address().expect("it listens on TCP"));
//! let mut talk = Conversation::connect(&network).await?;
//! talk.send_all("hello\n").await?;
//! assert_eq!(talk.receive_until("\n", Duration::from_secs(10)).await?, b"hello\n");
//! forward.stop().await;
//! # Ok(()) }
//! ```

mod check;
mod conversation;
mod dbus;
mod echo;
mod endpoint;
mod forward;
mod listen;
mod local_socket;
mod stats;
mod tcp;
mod udp;
mod unix;
mod vsock;
#[cfg(feature = "websocket")]
mod websocket;

pub use check::{Reachability, check, check_within};
pub use conversation::Conversation;
pub use dbus::{DbusKind, DbusNetwork, DbusNetworkConfig};
pub use echo::{EchoNetwork, EchoNetworkConfig};
pub use forward::{Endpoint, MatchingForward, PortForward, TcpForward, UdpForward, UnixForward};
pub use stats::ForwardStats;
pub use tcp::{TcpNetwork, TcpNetworkConfig};
pub use udp::{UdpNetwork, UdpNetworkConfig};
pub use unix::{UnixNetwork, UnixNetworkConfig};
pub use vsock::{VsockNetwork, VsockNetworkConfig};
#[cfg(feature = "websocket")]
pub use websocket::{MessageKind, WebsocketNetwork, WebsocketNetworkConfig};
