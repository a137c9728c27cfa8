//! A serial port that sends back what it gets.

use std::fs::File;
use std::sync::Mutex;

use jumpstarter_driver_core::Framing;
use jumpstarter_driver_core::prelude::*;
use tokio::sync::watch;

use super::Echo;

super::fake!(SerialConfig, "fake-serial", SerialFake);

pub(crate) struct SerialFake {
    fault: String,
    /// Counts the closes, which end connections.
    closed: watch::Sender<usize>,
    opened: Mutex<usize>,
    files: Mutex<Vec<File>>,
}

impl SerialFake {
    pub(crate) fn open(fault: String) -> Self {
        Self {
            fault,
            closed: watch::Sender::new(0),
            opened: Mutex::default(),
            files: Mutex::default(),
        }
    }
}

#[async_trait]
impl Driver for SerialFake {
    interfaces!(Serial);

    async fn close(&self) -> Result<()> {
        self.files.lock().unwrap().clear();
        Ok(())
    }
}

#[async_trait]
impl Serial for SerialFake {
    async fn connect(&self) -> Result<Channel> {
        {
            let mut opened = self.opened.lock().unwrap();
            *opened += 1;
            if self.fault == "stays busy" && *opened > 2 {
                return Err(Error::unavailable("somebody has it open"));
            }
        }
        if self.fault == "keeps connections" {
            self.files.lock().unwrap().push(File::open("/dev/null")?);
        }
        let echo = Echo { seven_bits: self.fault == "seven bits", ..Echo::default() };
        let (near, far) = Channel::pair(Framing::Bytes);
        let mut closed = self.closed.subscribe();
        let stays = self.fault == "ignores close";
        tokio::spawn(async move {
            let (reader, writer) = far.split();
            tokio::select! {
                () = echo.run(reader, writer) => {}
                Ok(()) = closed.changed(), if !stays => {}
            }
        });
        Ok(near)
    }

    async fn set_dtr(&self, _level: bool) -> Result<()> {
        if self.fault == "line" { Err(Error::internal("the line is broken")) } else { Ok(()) }
    }

    async fn close(&self) -> Result<()> {
        *self.opened.lock().unwrap() = 0;
        self.closed.send_modify(|closes| *closes += 1);
        Ok(())
    }
}
