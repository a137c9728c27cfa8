//! A channel joined to standard input and output.

use std::io;

use anyhow::Result;
use jumpstarter_driver_core::{Channel, ChannelReader, ChannelWriter};
use tokio::io::AsyncWriteExt;

use crate::terminal::Input;

/// Sends standard input to the channel and prints what comes from it until the other side ends. The end of standard
/// input ends only its own direction.
pub(crate) async fn standard_streams(channel: Channel) -> Result<()> {
    let (reader, writer) = channel.split();
    let (mut receiving, mut sending) = (Box::pin(receive(reader)), Box::pin(send(writer)));
    tokio::select! {
        received = &mut receiving => received,
        sent = &mut sending => match sent {
            // The other side may still have something to say, even when it no longer listens.
            Ok(()) => receiving.await,
            Err(error) => Err(error),
        },
    }
}

async fn receive(mut reader: ChannelReader) -> Result<()> {
    let mut output = tokio::io::stdout();
    while let Some(frame) = reader.receive().await? {
        output.write_all(&frame).await?;
        output.flush().await?;
    }
    Ok(())
}

async fn send(mut writer: ChannelWriter) -> Result<()> {
    let mut input = Input::of_stdin()?;
    while let Some(bytes) = input.next().await.map_err(not_an_ended_reader)? {
        writer.send(bytes).await?;
    }
    Ok(writer.finish().await?)
}

/// Only standard output says that nobody reads any more.
fn not_an_ended_reader(error: io::Error) -> anyhow::Error {
    anyhow::Error::from(error).context("reading standard input")
}
