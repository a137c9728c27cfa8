//! The task that watches one program: notices its end, reads its last output, reaps its guardian.

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;
use tracing::warn;

use crate::ExitStatus;
use crate::launch::Guard;
use crate::output::{Pump, Reading};

/// The phase of a program's life.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Life {
    /// The exit status, once the program has ended and its output was read.
    pub(crate) status: Option<ExitStatus>,
    /// Whether the program, all of its descendants and its guardian have ended.
    pub(crate) gone: bool,
}

/// The resources of the task.
pub(crate) struct Supervisor {
    pub(crate) program: String,
    pub(crate) pid: u32,
    pub(crate) own_group: bool,
    pub(crate) guard: Guard,
    pub(crate) status: Receiver,
    pub(crate) pumps: Vec<Pump>,
    pub(crate) life: watch::Sender<Life>,
}

impl Supervisor {
    /// Runs until everything has ended. Holds nothing that keeps the program alive.
    pub(crate) async fn run(mut self) {
        let status =
            read_status(&mut self.status).await.map_or(ExitStatus::Unknown, ExitStatus::from_wait);
        if status == ExitStatus::Unknown && matches!(self.guard, Guard::Guardian { .. }) {
            self.without_guardian();
        }
        let mut readings: Vec<Reading> = Vec::new();
        for pump in self.pumps.drain(..) {
            readings.push(pump.drain().await);
        }
        self.life.send_modify(|life| life.status = Some(status));
        if let Err(error) = self.guard.ended().await {
            warn!(program = self.program, %error, "cannot wait for the guardian of a program");
        }
        self.life.send_modify(|life| life.gone = true);
    }

    /// The guardian was killed. The program died with it; the rest of its group is killed here.
    fn without_guardian(&self) {
        warn!(program = self.program, pid = self.pid, "the guardian of a program was killed");
        let group = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        if let (true, Some(group)) = (self.own_group, group) {
            // Fails if no process is left.
            rustix::process::kill_process_group(group, rustix::process::Signal::KILL).ok();
        }
    }
}

/// The program's wait status; `None` if the guardian died first.
async fn read_status(pipe: &mut Receiver) -> Option<i32> {
    let mut bytes = [0; 4];
    pipe.read_exact(&mut bytes).await.ok()?;
    Some(i32::from_ne_bytes(bytes))
}
