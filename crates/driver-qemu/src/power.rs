//! The child `power`: the machine's plug.

use std::sync::Mutex;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use jumpstarter_driver_core::prelude::*;
use tokio::time::Instant;

use crate::host::Place;
use crate::interface::Machine;
use crate::lock::lock;
use crate::vm::Vm;

/// The shortest time that a reading averages over, unless the machine was powered on later.
const SHORTEST: Duration = Duration::from_millis(100);

/// Power of a machine: `on` starts QEMU, `off` does what the configuration's `off` says. `read`
/// returns one reading and ends: 1 volt while the machine is powered, else 0; the amperes are the
/// cores of the host that it has used since the previous reading, or since power-on.
#[derive(Debug)]
pub(crate) struct QemuPower {
    vm: Vm,
    last: Mutex<Option<Measured>>,
}

/// The processor time that a process had used.
#[derive(Clone, Copy, Debug)]
struct Measured {
    pid: u32,
    at: Instant,
    used: Duration,
}

impl QemuPower {
    pub(crate) fn new(vm: Vm) -> Self {
        Self { vm, last: Mutex::default() }
    }

    fn reading(&self) -> PowerReading {
        let mut last = lock(&self.last);
        let Some(run) = self.vm.running() else {
            *last = None;
            return PowerReading { voltage: 0.0, current: 0.0 };
        };
        // The processes of a sidecar are not visible here: its machines take no power.
        let is_here = self.vm.host().place == Place::Here;
        let used = is_here.then(|| processor_time(run.pid())).flatten().unwrap_or_default();
        let now = Measured { pid: run.pid(), at: Instant::now(), used };
        let since = last.filter(|last| last.pid == now.pid).unwrap_or(Measured {
            at: run.started_at(),
            used: Duration::ZERO,
            ..now
        });
        let elapsed = now.at.duration_since(since.at);
        // The system counts in hundredths of a second: more frequent readings average over a longer
        // time.
        if elapsed >= SHORTEST {
            *last = Some(now);
        }
        let used = now.used.saturating_sub(since.used).as_secs_f64();
        let current = if elapsed.is_zero() { 0.0 } else { used / elapsed.as_secs_f64() };
        PowerReading { voltage: 1.0, current }
    }
}

impl Driver for QemuPower {
    interfaces!(Power);
}

#[async_trait]
impl Power for QemuPower {
    async fn on(&self) -> Result<()> {
        self.vm.start().await
    }

    async fn off(&self) -> Result<()> {
        self.vm.power_off().await.map(drop)
    }

    async fn read(&self) -> Result<ValueStream<PowerReading>> {
        let reading = self.reading();
        Ok(stream::once(async move { Ok(reading) }).boxed())
    }
}

/// User and system time of a process so far (proc(5), `/proc/PID/stat`, fields 14 and 15).
fn processor_time(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command, field 2, may contain spaces and parentheses: the rest begins after the last one.
    let mut fields = stat.get(stat.rfind(')')? + 2..)?.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}
