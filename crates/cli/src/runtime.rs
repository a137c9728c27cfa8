//! The runtimes of the commands. If the system lacks threads or descriptors they report an error;
//! they never panic or block.

use std::io::{self, PipeReader, PipeWriter};
use std::num::NonZero;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use jumpstarter_driver_core::{Error, Result, ResultExt};
use tokio::runtime::{Builder, Runtime};

/// Pipes that take the file descriptors of a runtime and a first connection.
const PIPES: usize = 8;
/// Threads for blocking work, such as reading files. They are started at once and kept: if the
/// system later refuses more, work waits for these.
const BLOCKING_THREADS: usize = 2;
/// Long enough that no thread ends because it is idle.
const KEPT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A runtime on this thread, for a short command.
pub(crate) fn single() -> Result<Runtime> {
    build(Builder::new_current_thread(), 1, 0)
}

/// A runtime with a thread for each processor, for a command that serves.
pub(crate) fn multi() -> Result<Runtime> {
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(workers);
    build(builder, BLOCKING_THREADS, workers)
}

/// Builds a runtime after checking that the system can provide it: building would panic otherwise.
fn build(mut builder: Builder, blocking: usize, workers: usize) -> Result<Runtime> {
    spare_descriptors()?;
    spare_threads(blocking + workers)?;
    let runtime = builder.enable_all().thread_keep_alive(KEPT).build().context("starting")?;
    start_blocking(&runtime, blocking);
    Ok(runtime)
}

fn spare_descriptors() -> Result<()> {
    // Pipes need no file: a container may have an empty /dev.
    let pipes: io::Result<Vec<(PipeReader, PipeWriter)>> = (0..PIPES).map(|_| io::pipe()).collect();
    pipes.map(drop).map_err(|error| {
        Error::resource_exhausted("this program may open too few files")
            .with_source(error)
            .with_hint("raise the limit: `ulimit -n 1024`")
    })
}

fn spare_threads(count: usize) -> Result<()> {
    let mut ends: Vec<(Sender<()>, thread::JoinHandle<()>)> = Vec::new();
    let mut started = Ok(());
    for _ in 0..count {
        let (end, ended) = channel::<()>();
        // The thread waits until `end` is dropped.
        match thread::Builder::new().spawn(move || ended.iter().for_each(drop)) {
            Ok(thread) => ends.push((end, thread)),
            Err(error) => {
                started = Err(Error::resource_exhausted("this user may start no more threads")
                    .with_source(error)
                    .with_hint("raise the limit: `ulimit -u`"));
                break;
            }
        }
    }
    for (end, thread) in ends {
        drop(end);
        // The thread cannot panic.
        drop(thread.join());
    }
    started
}

/// Makes the runtime start `count` threads, with tasks that wait for each other.
fn start_blocking(runtime: &Runtime, count: usize) {
    let (begun, all_begun) = channel();
    let mut ends = Vec::new();
    for _ in 0..count {
        let begun = begun.clone();
        let (end, ended) = channel::<()>();
        runtime.spawn_blocking(move || {
            // The receiver waits, or its wait has ended.
            begun.send(()).ok();
            ended.recv().ok();
        });
        ends.push(end);
    }
    drop(begun);
    // A task that could not begin is dropped with its sender when the runtime ends, so no wait
    // lasts for ever.
    for _ in 0..count {
        if all_begun.recv_timeout(Duration::from_secs(1)).is_err() {
            return;
        }
    }
}
