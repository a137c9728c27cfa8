//! Connects a channel to standard input and output.

use std::time::Duration;

use jumpstarter_driver_core::{Channel, ChannelReader, ChannelWriter, ResultExt};
use tokio::io::AsyncWriteExt;

use crate::fault::Result;
use crate::terminal::{self, Input};

/// How long the other side may go on sending after it stopped reading.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(5);

/// Copies standard input to the channel, and the channel to standard output, until the other side
/// ends. The end of standard input ends only its direction.
pub(crate) async fn standard_streams(channel: Channel) -> Result<()> {
    let (reader, writer) = channel.split();
    let (mut receiving, mut sending) = (Box::pin(receive(reader)), Box::pin(send(writer)));
    tokio::select! {
        received = &mut receiving => received,
        sent = &mut sending => match sent {
            Ok(()) => receiving.await,
            Err(error) => {
                tokio::time::timeout(LAST_WORDS, receiving).await.unwrap_or(Ok(()))?;
                Err(error)
            }
        },
    }
}

async fn receive(mut reader: ChannelReader) -> Result<()> {
    let mut output = terminal::output()?;
    while let Some(frame) = reader.receive().await? {
        output.write_all(&frame).await?;
        output.flush().await?;
    }
    Ok(())
}

async fn send(mut writer: ChannelWriter) -> Result<()> {
    let mut input = Input::of_stdin()?;
    while let Some(bytes) = input.next().await.context("reading standard input")? {
        writer.send(bytes).await?;
    }
    Ok(writer.finish().await?)
}
