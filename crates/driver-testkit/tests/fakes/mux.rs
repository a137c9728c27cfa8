//! A storage multiplexer whose medium is in memory.

use std::sync::Mutex;

use futures_util::StreamExt;
use jumpstarter_driver_core::prelude::*;

super::fake!(MuxConfig, "fake-mux", MuxFake);

pub(crate) struct MuxFake {
    fault: String,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Side {
    #[default]
    Off,
    Host,
    Device,
}

#[derive(Default)]
struct State {
    side: Side,
    medium: Vec<u8>,
    is_broken: bool,
}

impl MuxFake {
    pub(crate) fn open(fault: String) -> Self {
        Self { fault, state: Mutex::default() }
    }

    fn is(&self, fault: &str) -> bool {
        self.fault == fault
    }

    fn switch(&self, side: Side) -> Result<()> {
        let mut state = self.state.lock().unwrap();
        if state.side == side && self.is("switches once") {
            return Err(Error::failed_precondition("the medium is there"));
        }
        if side == Side::Device && self.is("loses the medium") {
            state.medium.clear();
        }
        state.side = side;
        Ok(())
    }
}

impl Driver for MuxFake {
    interfaces!(StorageMux);
}

#[async_trait]
impl StorageMux for MuxFake {
    async fn host(&self) -> Result<()> {
        self.switch(Side::Host)
    }

    async fn dut(&self) -> Result<()> {
        self.switch(Side::Device)
    }

    async fn off(&self) -> Result<()> {
        self.switch(Side::Off)
    }

    async fn write(&self, source: ImageSource) -> Result<()> {
        if self.state.lock().unwrap().is_broken {
            return Err(Error::internal("a write failed before"));
        }
        let mut pieces = source.into_stream();
        let mut medium = Vec::new();
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(piece) => medium.extend_from_slice(&piece),
                Err(error) => {
                    self.state.lock().unwrap().is_broken = self.is("stays broken");
                    return Err(error.into());
                }
            }
        }
        self.state.lock().unwrap().medium = medium;
        Ok(())
    }

    async fn read(&self, mut target: ImageSink) -> Result<()> {
        let medium = self.state.lock().unwrap().medium.clone();
        target.open().await?;
        target.write(medium).await?;
        target.finish().await
    }
}
