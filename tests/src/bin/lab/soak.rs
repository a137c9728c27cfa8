//! Many exporters and clients on one controller, and many leases: nothing stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jumpstarter_client::lab::Lab;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::{Child, Signal, StopPlan};
use tokio::task::JoinSet;

use crate::promise;
use crate::station::{LIMIT, Station, Usage, leased, until};

/// The hooks of the exporters in processes, whose processes must not stay.
const HOOKS: &str = "hooks: {beforeLease: {script: 'true'}, afterLease: {script: 'true'}}\n";
/// What one lease sends through a stream and gets back.
const ECHO: usize = 64 << 10;
/// How much the memory of an exporter in a process may grow after a quarter of the leases, in KiB.
const GROWTH: usize = 6 << 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many exporters there are
    #[arg(long, default_value_t = 50)]
    exporters: usize,
    /// How many of them are processes, with hooks; the others are tasks of this one
    #[arg(long, default_value_t = 10)]
    processes: usize,
    /// How many clients there are, each a task of this process
    #[arg(long, default_value_t = 50)]
    clients: usize,
    /// How many leases there are in all
    #[arg(long, default_value_t = 1000)]
    leases: usize,
}

/// One lease, used.
async fn use_one(lab: &Lab) -> Result<()> {
    let (lease, exporter) = leased(lab).await?;
    exporter.device().call("power", "on", vec![]).await?;
    let mut echo = exporter.device().connect("echo", "connect").await?;
    echo.send(vec![7; ECHO]).await?;
    let mut received = 0;
    while received < ECHO {
        let piece = echo.receive().await?;
        received += piece.ok_or_else(|| Error::data_loss("the echo ended early"))?.len();
    }
    lease.release().await
}

/// Uses leases until all have been taken.
async fn use_all(lab: Lab, left: Arc<AtomicUsize>, done: Arc<AtomicUsize>) -> Result<()> {
    while left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    {
        use_one(&lab).await?;
        done.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}

/// Runs so many leases.
async fn run_leases(station: &Station, clients: usize, leases: usize) -> Result<()> {
    let left = Arc::new(AtomicUsize::new(leases));
    let done = Arc::new(AtomicUsize::new(0));
    let mut running = JoinSet::new();
    for client in 0..clients {
        let lab = station.client(&format!("c{client}"))?;
        running.spawn(use_all(lab, left.clone(), done.clone()));
    }
    while let Some(ended) = running.join_next().await {
        ended.map_err(|error| Error::internal("a client panicked").with_source(error))??;
    }
    until("all leases are over", || station.controller.leases(true).is_empty()).await?;
    until("all tunnels are closed", || station.controller.router_streams() == (0, 0)).await?;
    promise(done.load(Ordering::SeqCst) == leases, "a lease is missing")
}

/// The figures of each exporter in a process, and of this process.
fn usages(processes: &[Child]) -> Vec<Usage> {
    let numbers = processes.iter().map(Child::pid).chain([std::process::id()]);
    numbers.filter_map(Usage::of).collect()
}

fn print(when: &str, usages: &[Usage]) {
    let Some((ours, others)) = usages.split_last() else { return };
    let most = |of: fn(&Usage) -> usize| others.iter().map(of).max().unwrap_or(0);
    println!(
        "{when}: an exporter in a process has at most {} KiB, {} descriptors, {} children; this process, with \
         everything else, {} KiB, {} descriptors",
        most(|usage| usage.memory),
        most(|usage| usage.descriptors),
        most(|usage| usage.children),
        ours.memory,
        ours.descriptors,
    );
}

pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    let station = Station::start().await?;
    let began = Instant::now();
    let mut processes = Vec::new();
    let mut tasks = Vec::new();
    for number in 0..arguments.exporters {
        let name = format!("e{number}");
        match number < arguments.processes {
            true => processes.push(station.process(&name, HOOKS).await?),
            false => tasks.push(station.task(&name).await?),
        }
    }
    println!(
        "{} exporters joined ({} in processes) within {:.1} s",
        arguments.exporters,
        processes.len(),
        began.elapsed().as_secs_f64()
    );
    let quarter = arguments.leases / 4;
    let began = Instant::now();
    run_leases(&station, arguments.clients, quarter).await?;
    let settled = until_settled(&processes).await?;
    print(&format!("after {quarter} leases"), &settled);
    run_leases(&station, arguments.clients, arguments.leases - quarter).await?;
    let took = began.elapsed();
    let after = until_settled(&processes).await?;
    print(&format!("after {} leases", arguments.leases), &after);
    println!(
        "{} leases of {} clients took {:.1} s",
        arguments.leases,
        arguments.clients,
        took.as_secs_f64()
    );
    promise(after.len() == arguments.processes + 1, "an exporter has ended")?;
    for (before, after) in settled.iter().zip(&after).take(arguments.processes) {
        promise(after.children == 0, format!("processes stayed: {after:?}"))?;
        promise(after.memory <= before.memory + GROWTH, format!("{before:?} became {after:?}"))?;
    }
    for (before, after) in settled.iter().zip(&after) {
        let most = before.descriptors + 4;
        promise(after.descriptors <= most, format!("{before:?} became {after:?}"))?;
    }
    for exporter in &processes {
        let stop = StopPlan::new().signal(Signal::TERM, LIMIT);
        let stopped = exporter.stop(stop).await.map_err(Error::from)?;
        let said = format!("{stopped}: {}", exporter.stderr_tail());
        promise(exporter.try_status().is_some_and(|status| status.success()), said)?;
    }
    let mut files = 0;
    for folder in std::fs::read_dir(station.folder.path().join("tmp"))? {
        files += std::fs::read_dir(folder?.path())?.count();
    }
    promise(files == 0, format!("{files} files stayed"))?;
    println!("nothing stayed: 0 tunnels, 0 processes, 0 files");
    Ok(())
}

/// The figures once the last lease has been cleaned up: descriptors close a moment later.
async fn until_settled(processes: &[Child]) -> Result<Vec<Usage>> {
    let began = Instant::now();
    let mut last = usages(processes);
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = usages(processes);
        let same = now.iter().zip(&last).all(|(now, last)| {
            now.descriptors == last.descriptors && now.children == last.children
        });
        if same || began.elapsed() > LIMIT {
            return Ok(now);
        }
        last = now;
    }
}
