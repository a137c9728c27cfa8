//! The program `streams`: what the script in Python does, with our client.

use futures_util::{StreamExt, TryStreamExt};
use jumpstarter_client::DeviceExt;
use jumpstarter_driver_core::prelude::*;

use super::promise;

const SIZE: usize = 1 << 20;
const FRAME: usize = 64 << 10;

/// Four byte streams at the same time, each a mebibyte there and back, and a stream of values, on
/// the device of `JUMPSTARTER_HOST`.
///
/// # Errors
/// Those of the device; a difference.
pub async fn streams() -> Result<()> {
    let device = Device::from_env().await?;
    let echoes = (0..4).map(|number| echo(&device, number));
    futures_util::future::try_join_all(echoes).await?;
    let readings = device.get::<dyn Power>("power")?.read().await?;
    let readings: Vec<PowerReading> = readings.try_collect().await?;
    let readings: Vec<_> =
        readings.iter().map(|reading| (reading.voltage, reading.current)).collect();
    promise(readings == [(0.0, 0.0), (5.0, 2.0)], || format!("{readings:?}"))?;
    device.close().await
}

async fn echo(device: &Device, number: usize) -> Result<()> {
    let sent: Vec<u8> = (0..SIZE).map(|index| ((index * 7 + number) % 251) as u8).collect();
    let (mut reader, mut writer) = device.connect("echo", "connect").await?.split();
    let send = async {
        for frame in sent.chunks(FRAME) {
            writer.send(frame.to_vec()).await?;
        }
        Ok::<_, Error>(())
    };
    let receive = async {
        let mut received = Vec::new();
        while received.len() < SIZE {
            let piece = reader.next().await.transpose()?;
            received.extend(piece.ok_or_else(|| Error::data_loss("the echo ended early"))?);
        }
        Ok(received)
    };
    let ((), received) = futures_util::try_join!(send, receive)?;
    promise(received == sent, || format!("stream {number} differs"))
}
