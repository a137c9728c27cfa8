//! The controller is away while a lease is used.

use std::time::{Duration, Instant};

use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::{Signal, StopPlan};

use crate::promise;
use crate::station::{LIMIT, Station, leased, until};

pub(crate) async fn run(times: &[Duration]) -> Result<()> {
    let station = Station::start().await?;
    let exporter = station.process("e1", "").await?;
    let lab = station.client("c1")?;
    for time in times {
        let (lease, device) = leased(&lab).await?;
        let mut echo = device.device().connect("echo", "connect").await?;
        station.controller.controller().down().await;
        let began = Instant::now();
        let (mut calls, mut slowest) = (0, Duration::ZERO);
        while began.elapsed() < *time {
            let call = Instant::now();
            device.device().call("power", "on", vec![]).await?;
            echo.send("still there").await?;
            promise(echo.receive().await?.is_some(), "the stream ended")?;
            slowest = slowest.max(call.elapsed());
            calls += 1;
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        station.controller.controller().up().await;
        let back = Instant::now();
        until("the exporter is back", || station.controller.has_status_stream("e1")).await?;
        let exporter_back = back.elapsed();
        let second = tokio::time::timeout(LIMIT, lease.connect()).await;
        let second = second.map_err(|_| Error::deadline_exceeded("no further connection"))??;
        second.device().call("power", "off", vec![]).await?;
        device.device().call("power", "on", vec![]).await?;
        let lease_name = lease.name().to_owned();
        promise(
            station.controller.lease_of("e1").as_ref() == Some(&lease_name),
            "the lease is another one",
        )?;
        lease.release().await?;
        until("the lease is over", || station.controller.leases(true).is_empty()).await?;
        println!(
            "outage of {} s: {calls} calls and echoes went on (the slowest took {} ms); the exporter was back after \
             {} ms, a further connection after {} ms",
            time.as_secs(),
            slowest.as_millis(),
            exporter_back.as_millis(),
            back.elapsed().as_millis(),
        );
    }
    let stop = StopPlan::new().signal(Signal::TERM, LIMIT);
    let stopped = exporter.stop(stop).await.map_err(Error::from)?;
    println!("the exporter ended: {stopped}; its warnings:\n{}", exporter.stderr_tail());
    Ok(())
}
