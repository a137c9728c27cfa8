//! Connects a channel to standard input and output.

use std::io;
use std::time::Duration;

use jumpstarter_driver_core::{Channel, ChannelReader, ChannelWriter, Error};
use tokio::io::AsyncWriteExt;

use crate::fault::{Fault, Result};
use crate::terminal::Input;

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

/// Only standard output reports a reader that closed its end.
fn not_an_ended_reader(error: io::Error) -> Fault {
    Fault::Failed(Error::from(error).context("reading standard input"))
}
