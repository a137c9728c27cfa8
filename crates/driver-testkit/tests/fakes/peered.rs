//! Drivers with children that lead to a peer, which changes what it says.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{ChannelWriter, Framing};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// A connection to a peer.
pub(crate) async fn connect(address: &str) -> Result<Channel> {
    let (reader, writer) = TcpStream::connect(address).await?.into_split();
    Ok(Channel::from_split(reader, writer))
}

/// The same connection with other bytes for some, wherever they come whole.
pub(crate) fn replaced(
    reader: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    writer: ChannelWriter,
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
) -> Channel {
    let changed = reader.map(move |frame| {
        let mut bytes = frame?.to_vec();
        for (from, to) in &pairs {
            while let Some(at) = bytes.windows(from.len()).position(|part| part == from) {
                bytes.splice(at..at + from.len(), to.iter().copied());
            }
        }
        Ok(bytes.into())
    });
    Channel::from_parts(Framing::Bytes, changed, writer)
}

/// A way to a peer: a network and a console.
pub(crate) struct Way {
    address: String,
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
    goes_on: bool,
    closed: CancellationToken,
}

impl Way {
    async fn open(&self) -> Result<Channel> {
        let (reader, writer) = connect(&self.address).await?.split();
        let ends = reader.take_until(self.closed.clone().cancelled_owned());
        Ok(replaced(ends, writer, self.pairs.clone()))
    }
}

#[async_trait]
impl Driver for Way {
    interfaces!(Network, Serial);

    async fn close(&self) -> Result<()> {
        if !self.goes_on {
            self.closed.cancel();
        }
        Ok(())
    }
}

#[async_trait]
impl Network for Way {
    async fn connect(&self) -> Result<Channel> {
        self.open().await
    }

    async fn address(&self) -> Result<String> {
        Ok(format!("tcp://{}", self.address))
    }
}

#[async_trait]
impl Serial for Way {
    async fn connect(&self) -> Result<Channel> {
        self.open().await
    }
}

fn way(address: String, pairs: &[(&str, &str)], goes_on: bool) -> Arc<Way> {
    let pairs = pairs.iter().map(|(from, to)| (from.as_bytes().to_vec(), to.as_bytes().to_vec()));
    Arc::new(Way { address, pairs: pairs.collect(), goes_on, closed: CancellationToken::new() })
}

/// The child `power` of a board.
struct Switch;

impl Driver for Switch {
    interfaces!(Power);
}

#[async_trait]
impl Power for Switch {
    async fn on(&self) -> Result<()> {
        Ok(())
    }

    async fn off(&self) -> Result<()> {
        Ok(())
    }
}

/// Which fault it has; `none` for none.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BoardConfig {
    /// The fault.
    fault: String,
    /// The peer whose words it changes.
    peer: String,
}

#[async_trait]
impl DriverConfig for BoardConfig {
    const NAME: &'static str = "fake-board";
    type Driver = BoardFake;
    fn children(&self) -> Option<Vec<PlannedChild>> {
        let serial = PlannedChild::new("serial").with::<dyn Network>().with::<dyn Serial>();
        Some(vec![PlannedChild::new("power").with::<dyn Power>(), serial])
    }
    async fn open(self, _: OpenContext) -> Result<BoardFake> {
        let pairs: &[_] = match self.fault.as_str() {
            "no codes" => &[("1:0@", "1:$?@")],
            "forgets" => &[("conformance=two", "conformance=too")],
            _ => &[],
        };
        let goes_on = self.fault == "types on";
        let serial = way(self.peer, pairs, goes_on);
        let children = vec![Child::new("power", Arc::new(Switch)), Child::new("serial", serial)];
        Ok(BoardFake { fault: self.fault, asked: AtomicUsize::new(0), children })
    }
}
register_driver!(BoardConfig);

/// Knows a prompt.
#[interface(name = "fake-uboot", client = "fake.client.Uboot")]
pub(crate) trait Board {
    /// The prompt.
    async fn get_prompt(&self) -> Result<String>;
}

pub(crate) struct BoardFake {
    fault: String,
    asked: AtomicUsize,
    children: Vec<Child>,
}

impl Driver for BoardFake {
    interfaces!(Board);
    fn children(&self) -> Vec<Child> {
        self.children.clone()
    }
}

#[async_trait]
impl Board for BoardFake {
    async fn get_prompt(&self) -> Result<String> {
        let asked = self.asked.fetch_add(1, SeqCst);
        let is_other = self.fault == "another prompt" && asked > 0;
        Ok(if is_other { "other# " } else { "\nboard# " }.to_owned())
    }
}

/// Which fault it has; `none` for none.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScreenConfig {
    /// The fault.
    fault: String,
    /// The peer whose words it changes.
    peer: String,
}

#[async_trait]
impl DriverConfig for ScreenConfig {
    const NAME: &'static str = "fake-screen";
    type Driver = ScreenFake;
    fn children(&self) -> Option<Vec<PlannedChild>> {
        Some(vec![PlannedChild::new("tcp").with::<dyn Network>().with::<dyn Serial>()])
    }
    async fn open(self, _: OpenContext) -> Result<ScreenFake> {
        // The width and height, and the beginning of the pixels' format.
        let pairs: &[_] = match self.fault.as_str() {
            "small picture" => &[("\0\x10\0\x08\x20\x18", "\0\x20\0\x08\x20\x18")],
            _ => &[],
        };
        let tcp = way(self.peer, pairs, false);
        let children = vec![Child::new("tcp", tcp)];
        Ok(ScreenFake { fault: self.fault, asked: AtomicUsize::new(0), children })
    }
}
register_driver!(ScreenConfig);

/// Names a screen.
#[interface(name = "fake-vnc", client = "fake.client.Vnc")]
pub(crate) trait Screen {
    /// Whether a page uses TLS.
    async fn get_default_encrypt(&self) -> Result<bool>;
}

pub(crate) struct ScreenFake {
    fault: String,
    asked: AtomicUsize,
    children: Vec<Child>,
}

impl Driver for ScreenFake {
    interfaces!(Screen);
    fn children(&self) -> Vec<Child> {
        self.children.clone()
    }
}

#[async_trait]
impl Screen for ScreenFake {
    async fn get_default_encrypt(&self) -> Result<bool> {
        let asked = self.asked.fetch_add(1, SeqCst);
        Ok(self.fault == "changes its mind" && asked > 0)
    }
}
