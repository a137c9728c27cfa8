//! A stream through a router that is far away: its speed is that of the windows, not of the
//! distance.

use std::time::{Duration, Instant};

use jumpstarter_driver_core::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::promise;
use crate::station::{Station, leased};

/// What each connection takes, one way.
const DELAY: Duration = Duration::from_millis(50);
const BYTES: usize = 64 << 20;
/// The smallest window on the way: that of a stream at the exporter.
const WINDOW: f64 = (4 << 20) as f64;
/// The way there and back, over two connections.
const ROUND_TRIP: Duration = Duration::from_millis(200);
/// The least part of what the window allows. With a window of 64 KiB it would be a sixty-fourth.
const PART: f64 = 0.3;

pub(crate) async fn run() -> Result<()> {
    let station = Station::start().await?;
    let _exporter = station.process("e1", "").await?;
    let near = speed(&station, "near").await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let far = format!("localhost:{}", listener.local_addr()?.port());
    let router = station.controller.router().address();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(router) = TcpStream::connect(router).await {
                    delay(stream, router);
                }
            });
        }
    });
    station.controller.set_router(Some(&far));
    let speed = speed(&station, "far").await?;
    let allowed = WINDOW / ROUND_TRIP.as_secs_f64();
    println!(
        "a window of {:.0} MiB allows {:.1} MiB/s, and the floor is {:.1}; near, it was {:.1} times as fast",
        mib(WINDOW),
        mib(allowed),
        mib(PART * allowed),
        near / speed
    );
    promise(speed >= PART * allowed, "a stream over a distance is too slow")
}

/// Sends bytes through an echo, and returns the speed.
async fn speed(station: &Station, name: &str) -> Result<f64> {
    let lab = station.client(name)?;
    let (lease, exporter) = leased(&lab).await?;
    let call = Instant::now();
    exporter.device().call("power", "on", vec![]).await?;
    let call = call.elapsed();
    let echo = exporter.device().connect("echo", "connect").await?;
    let (mut reader, mut writer) = echo.split();
    let began = Instant::now();
    let sending = tokio::spawn(async move {
        for _ in 0..BYTES / (64 << 10) {
            futures_util::SinkExt::send(&mut writer, vec![7; 64 << 10].into()).await?;
        }
        // The stream goes on until everything is back.
        Ok::<_, Error>(writer)
    });
    let mut received = 0;
    while received < BYTES {
        let piece = futures_util::StreamExt::next(&mut reader).await.transpose()?;
        received += piece.ok_or_else(|| Error::data_loss("the echo ended early"))?.len();
    }
    let speed = BYTES as f64 / began.elapsed().as_secs_f64();
    drop(sending.await.map_err(|error| Error::internal("sending").with_source(error))??);
    println!(
        "{name}: a call took {} ms, an echo of {} MiB ran at {:.1} MiB/s",
        call.as_millis(),
        BYTES >> 20,
        mib(speed)
    );
    lease.release().await?;
    Ok(speed)
}

fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

/// Copies both ways, each byte [`DELAY`] later.
fn delay(one: TcpStream, other: TcpStream) {
    drop((one.set_nodelay(true), other.set_nodelay(true)));
    let (read_one, write_one) = one.into_split();
    let (read_other, write_other) = other.into_split();
    direction(read_one, write_other);
    direction(read_other, write_one);
}

fn direction(
    mut from: impl AsyncRead + Send + Unpin + 'static,
    mut to: impl AsyncWrite + Send + Unpin + 'static,
) {
    // The windows of HTTP/2 bound what is on its way.
    let (sender, mut late) = mpsc::unbounded_channel::<(tokio::time::Instant, Vec<u8>)>();
    tokio::spawn(async move {
        let mut buffer = vec![0; 256 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let due = tokio::time::Instant::now() + DELAY;
            if sender.send((due, buffer[..count].to_vec())).is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some((due, bytes)) = late.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        drop(to.shutdown().await);
    });
}
