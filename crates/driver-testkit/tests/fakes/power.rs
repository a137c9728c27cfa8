//! A switch that remembers its position; the faults of every driver are its too.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{Interface, InterfaceDescriptor};
use jumpstarter_supervise::{Child as Process, Command};

super::fake!(PowerConfig, "fake-power", PowerFake);

#[derive(Default)]
pub(crate) struct PowerFake {
    fault: String,
    number: usize,
    is_on: Mutex<bool>,
    closes: AtomicUsize,
    resets: AtomicUsize,
    switching: AtomicUsize,
    reading: AtomicUsize,
    readings: AtomicUsize,
    stuck: AtomicUsize,
}

/// Counts who is inside, until they leave or are dropped.
struct Inside<'a>(&'a AtomicUsize);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

static NUMBER: AtomicUsize = AtomicUsize::new(0);
static KEPT: Mutex<Vec<TcpStream>> = Mutex::new(Vec::new());
static PROCESSES: Mutex<Vec<Process>> = Mutex::new(Vec::new());

/// A server that keeps connections alive until its client ends them, as HTTP servers do.
fn server() -> SocketAddr {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    *ADDRESS.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || listener.incoming().collect::<Vec<_>>());
        address
    })
}

impl PowerFake {
    pub(crate) fn open(fault: String) -> Self {
        let number = NUMBER.fetch_add(1, SeqCst);
        let fake = Self { fault, number, ..Self::default() };
        if fake.is("file until close") {
            std::fs::write(fake.file(), "x").unwrap();
        }
        fake
    }

    fn is(&self, fault: &str) -> bool {
        self.fault == fault
    }

    fn file(&self) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("left-by-fake-{}", self.number))
    }

    async fn switch(&self, on: bool) -> Result<()> {
        let others = self.switching.fetch_add(1, SeqCst);
        let _inside = Inside(&self.switching);
        tokio::task::yield_now().await;
        if self.is("race") {
            self.meet(&self.switching).await;
            if others > 0 {
                return Err(Error::internal("two at once"));
            }
        }
        if self.is("hangs after close") && self.closes.load(SeqCst) > 0 {
            std::future::pending::<()>().await;
        }
        if on {
            self.leak().await;
        }
        let mut is_on = self.is_on.lock().unwrap();
        if *is_on == on && self.is(if on { "on when on" } else { "off when off" }) {
            return Err(Error::aborted("it is already so"));
        }
        *is_on = on;
        Ok(())
    }

    /// Stays until somebody else is inside too, or for a while when nobody comes: callers do not
    /// meet by chance.
    async fn meet(&self, inside: &AtomicUsize) {
        let met = async {
            while inside.load(SeqCst) < 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_millis(500), met).await.ok();
    }

    async fn leak(&self) {
        match self.fault.as_str() {
            "leaves a file" => std::fs::write(self.file(), "x").unwrap(),
            "leaves a socket" => {
                std::mem::forget(TcpListener::bind("127.0.0.1:0").unwrap());
                std::mem::forget(File::open("/dev/null").unwrap());
            }
            "keeps alive" => KEPT.lock().unwrap().push(TcpStream::connect(server()).unwrap()),
            "leaves a process" => {
                let process = Command::new("sleep").arg("1000").spawn().await.unwrap();
                PROCESSES.lock().unwrap().push(process);
            }
            _ => {}
        }
    }
}

#[async_trait]
impl Driver for PowerFake {
    fn interfaces(&self) -> Interfaces<'_> {
        if self.is("unlisted") { Interfaces::new() } else { Interfaces::new().power(self) }
    }
    fn declared_interfaces() -> Vec<&'static InterfaceDescriptor> {
        vec![<dyn Power>::DESCRIPTOR]
    }

    async fn reset(&self) -> Result<()> {
        if self.resets.fetch_add(1, SeqCst) > 0 && self.is("second reset") {
            return Err(Error::internal("once is enough"));
        }
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        if self.closes.fetch_add(1, SeqCst) > 0 && self.is("second close") {
            return Err(Error::internal("it is closed"));
        }
        if self.is("panics unseen") {
            tokio::spawn(async { panic!("as the test wants") }).await.ok();
        }
        if self.is("file until close") {
            std::fs::remove_file(self.file()).ok();
        }
        Ok(())
    }
}

#[async_trait]
impl Power for PowerFake {
    async fn on(&self) -> Result<()> {
        self.switch(true).await
    }

    async fn off(&self) -> Result<()> {
        self.switch(false).await
    }

    async fn read(&self) -> Result<ValueStream<PowerReading>> {
        let others = self.reading.fetch_add(1, SeqCst);
        let inside = Inside(&self.reading);
        let was_stuck =
            self.stuck.fetch_add(usize::from(self.is("stuck after a drop")), SeqCst) > 0;
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        if self.is("deadlock") {
            self.meet(&self.reading).await;
            if others > 0 {
                std::future::pending::<()>().await;
            }
        }
        if was_stuck {
            return Err(Error::failed_precondition("somebody reads"));
        }
        self.stuck.store(0, SeqCst);
        drop(inside);
        if self.readings.fetch_add(1, SeqCst) > 1 && self.is("two readings") {
            return Ok(stream::empty().boxed());
        }
        let voltage = if self.is("negative") { -1.0 } else { 5.0 };
        Ok(stream::repeat_with(move || Ok(PowerReading { voltage, current: 0.5 })).boxed())
    }
}
