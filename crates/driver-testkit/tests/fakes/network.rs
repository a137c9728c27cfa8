//! A network whose other side is an echo in this process.

use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use jumpstarter_driver_core::Framing;
use jumpstarter_driver_core::prelude::*;
use tokio::sync::watch;

use super::Echo;

super::fake!(NetworkConfig, "fake-network", NetworkFake);

pub(crate) struct NetworkFake {
    fault: String,
    open: Arc<AtomicUsize>,
    /// Who ended its direction: connections end when another one has.
    ended: watch::Sender<usize>,
    number: AtomicUsize,
    files: Mutex<Vec<File>>,
}

impl NetworkFake {
    pub(crate) fn open(fault: String) -> Self {
        let (open, number) = (Arc::default(), AtomicUsize::new(1));
        Self { fault, open, ended: watch::Sender::new(0), number, files: Mutex::default() }
    }
}

#[async_trait]
impl Driver for NetworkFake {
    interfaces!(Network);

    async fn close(&self) -> Result<()> {
        self.files.lock().unwrap().clear();
        Ok(())
    }
}

#[async_trait]
impl Network for NetworkFake {
    async fn connect(&self) -> Result<Channel> {
        if self.fault == "never connects" {
            return Err(Error::internal("not today"));
        }
        if self.fault == "eight at most" && self.open.load(SeqCst) >= 8 {
            return Err(Error::resource_exhausted("eight are open"));
        }
        if self.fault == "keeps connections" {
            self.files.lock().unwrap().push(File::open("/dev/null")?);
        }
        let (near, far) = Channel::pair(Framing::Bytes);
        let echo = Echo {
            holds_back: self.fault == "holds back",
            without_bound: self.fault == "unbounded",
            without_end: self.fault == "endless",
            ..Echo::default()
        };
        let together = self.fault == "ends together";
        let (number, ended, open) =
            (self.number.fetch_add(1, SeqCst), self.ended.clone(), Arc::clone(&self.open));
        let mut others = self.ended.subscribe();
        open.fetch_add(1, SeqCst);
        tokio::spawn(async move {
            let (mut reader, mut writer) = far.split();
            let echoing = async {
                if !together {
                    return echo.run(reader, writer).await;
                }
                while let Ok(Some(bytes)) = reader.receive().await {
                    writer.send(bytes).await.ok();
                }
                ended.send_replace(number);
                // The others are closed before a client sees the end of this one.
                while open.load(SeqCst) > 1 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                () = echoing => {}
                _ = others.wait_for(|other| together && *other != 0 && *other != number) => {}
            }
            open.fetch_sub(1, SeqCst);
        });
        Ok(near)
    }

    async fn address(&self) -> Result<String> {
        Ok(if self.fault == "bare address" { "localhost:80" } else { "tcp://localhost:80" }
            .to_owned())
    }
}
