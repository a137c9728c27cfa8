//! A relay board on a serial port, as a power driver.

use std::path::PathBuf;

use board::Board;
use jumpstarter_driver_core::prelude::*;

mod board;

/// A relay of an Acme board that switches the device's supply.
#[config]
#[derive(Debug)]
pub struct RelayConfig {
    /// Serial device of the board.
    port: PathBuf,
    /// Channel on the board, from 1.
    channel: u8,
}

/// One relay.
#[derive(Debug)]
pub struct Relay {
    board: Board,
    channel: u8,
}

#[async_trait]
impl DriverConfig for RelayConfig {
    const NAME: &'static str = "acme-relay";
    type Driver = Relay;

    async fn open(self, _: OpenContext) -> Result<Relay> {
        Ok(Relay { board: Board::open(&self.port).await?, channel: self.channel })
    }
}
register_driver!(RelayConfig);

#[async_trait]
impl Driver for Relay {
    interfaces!(Power);

    async fn close(&self) -> Result<()> {
        self.board.close().await;
        Ok(())
    }
}

#[async_trait]
impl Power for Relay {
    async fn on(&self) -> Result<()> {
        self.board.set(self.channel, true).await
    }

    async fn off(&self) -> Result<()> {
        self.board.set(self.channel, false).await
    }
}
