//! The child `power`: the machine's plug.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use jumpstarter_driver_core::prelude::*;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::interface::Machine;
use crate::vm::Vm;

/// How often `read` yields.
const READING_INTERVAL: Duration = Duration::from_secs(1);

/// Power of a machine: `on` starts QEMU, `off` does what the configuration's `off` says. Readings give 1 volt while
/// the machine is powered and 0 while it is not; the amperes are the cores of the host that it uses.
#[derive(Debug)]
pub(crate) struct QemuPower(pub(crate) Vm);

impl Driver for QemuPower {
    fn interfaces(&self) -> Interfaces<'_> {
        Interfaces::new().power(self)
    }
}

#[async_trait]
impl Power for QemuPower {
    async fn on(&self) -> Result<()> {
        self.0.start().await
    }

    async fn off(&self) -> Result<()> {
        self.0.power_off().await.map(drop)
    }

    async fn read(&self) -> Result<ValueStream<PowerReading>> {
        let mut ticks = interval(READING_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let meter = Meter { vm: self.0.clone(), last: None };
        let readings = stream::unfold((meter, ticks), |(mut meter, mut ticks)| async move {
            ticks.tick().await;
            Some((Ok(meter.read()), (meter, ticks)))
        });
        Ok(readings.boxed())
    }
}

/// Measures the processor time that one process uses between two readings.
struct Meter {
    vm: Vm,
    last: Option<(u32, Instant, Duration)>,
}

impl Meter {
    fn read(&mut self) -> PowerReading {
        let Some(run) = self.vm.running() else {
            self.last = None;
            return PowerReading { voltage: 0.0, current: 0.0 };
        };
        let now = Instant::now();
        let used = processor_time(run.pid()).unwrap_or_default();
        // The first reading is the average since power-on.
        let (since, before) = match self.last {
            Some((pid, since, before)) if pid == run.pid() => (since, before),
            _ => (run.started_at(), Duration::ZERO),
        };
        self.last = Some((run.pid(), now, used));
        let elapsed = now.duration_since(since).as_secs_f64();
        let used = used.saturating_sub(before).as_secs_f64();
        let current = if elapsed > 0.0 { used / elapsed } else { 0.0 };
        PowerReading { voltage: 1.0, current }
    }
}

/// User and system time of a process so far (proc(5), `/proc/PID/stat`, fields 14 and 15).
fn processor_time(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command, field 2, may hold spaces and parentheses: the rest begins after the last one.
    let mut fields = stat.get(stat.rfind(')')? + 2..)?.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}
