//! `pipe`: copies the port's bytes to standard output or a file, and standard input to the port.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, Instant};

use clap::Args;
use jumpstarter_driver_core::{ChannelReader, ChannelWriter, Error, ResultExt, Serial};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::fault::{Fault, Result, SUCCESS};
use crate::j::context::Context;
use crate::j::pump::LAST_WORDS;
use crate::j::verb::Say;
use crate::terminal::{Input, output};

/// How long the last bytes may take to reach a local port before it is closed.
const DELIVERY: Duration = Duration::from_secs(1);
/// Bytes per second at the usual 115,200 baud: the wait for ports whose exporter does not report
/// delivery.
const USUAL_RATE: u64 = 11_520;

/// Copies the port's output to standard output or a file, and standard input to the port
///
/// Standard input is copied unless it is a terminal. After its end the port is still read, until
/// Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  {path} pipe                            show the port's output
  {path} pipe -o serial.log -a           append it to a file
  echo reboot | {path} pipe              send a line, and show the output
  {path} pipe --no-output < commands     send a file and end")]
pub(super) struct Pipe {
    /// Write to this file instead of standard output
    // Its name replaces that of an option of all commands.
    #[arg(id = "output", short = 'o', long = "output", value_name = "FILE")]
    file: Option<PathBuf>,
    /// Append to the file instead of replacing it
    #[arg(short, long, requires = "output")]
    append: bool,
    /// Copy standard input to the port even if it is a terminal
    #[arg(short, long)]
    input: bool,
    /// Copy nothing to the port
    #[arg(long, conflicts_with = "input")]
    no_input: bool,
    /// Only copy standard input to the port, and end when the port has taken it all
    #[arg(long, conflicts_with_all = ["output", "append", "no_input"])]
    no_output: bool,
}

impl Say for Pipe {
    const NAME: &'static str = "pipe";

    async fn run(self, context: &Context) -> Result<u8> {
        let piped = !std::io::stdin().is_terminal();
        let send = !self.no_input && (self.input || piped);
        if self.no_output {
            if !send {
                return Err(Fault::usage(
                    "with --no-output there is nothing to do",
                    "pipe something in, or add --input to type it",
                ));
            }
            return send_only(context).await;
        }
        let out = target(self.file.as_ref(), self.append).await?;
        let (reader, writer) = context.get::<dyn Serial>()?.connect().await?.split();
        context.output.note(plan(send, false, self.file.as_ref()));
        let sending = async {
            // The writer is kept until the end: some ports end both directions when one ends.
            let sent = if send { Some(forward(writer).await) } else { None };
            match sent {
                Some(Err(fault)) => fault,
                _ => std::future::pending().await,
            }
        };
        let mut receiving = pin!(receive(reader, out));
        tokio::select! {
            ended = &mut receiving => {
                ended?;
                context.output.note("The port ended.");
            }
            fault = sending => {
                tokio::time::timeout(LAST_WORDS, receiving).await.unwrap_or(Ok(()))?;
                return Err(fault);
            }
            () = context.interrupted() => context.output.note("Stopped."),
        }
        Ok(SUCCESS)
    }
}

/// Sends standard input, and returns when the port has taken all of it.
async fn send_only(context: &Context) -> Result<u8> {
    let (channel, ends) = match &context.opened.exporter {
        Some(exporter) => exporter.connect_to_send(&context.path, "connect").await?,
        None => (context.get::<dyn Serial>()?.connect().await?, false),
    };
    let (reader, writer) = channel.split();
    context.output.note(plan(true, true, None));
    let began = Instant::now();
    let (mut discarding, mut sending) = (pin!(discard(reader)), pin!(forward(writer)));
    let mut ended = false;
    // The port's output does not matter, but its end does.
    let (_writer, sent) = tokio::select! {
        sent = &mut sending => sent?,
        outcome = &mut discarding => {
            outcome?;
            ended = true;
            sending.await?
        }
    };
    if ended {
        return Ok(SUCCESS);
    }
    if ends {
        discarding.await?;
        return Ok(SUCCESS);
    }
    let needed = match context.opened.exporter {
        Some(_) => Duration::from_millis(sent.saturating_mul(1000) / USUAL_RATE)
            .saturating_sub(began.elapsed()),
        None => Duration::ZERO,
    };
    tokio::time::timeout(needed + DELIVERY, discarding).await.unwrap_or(Ok(()))?;
    if context.opened.exporter.is_some() {
        context
            .output
            .note("Sent; this exporter does not report whether the port has taken all of it.");
    }
    Ok(SUCCESS)
}

/// Describes what will happen, and how to end it.
fn plan(send: bool, no_output: bool, file: Option<&PathBuf>) -> String {
    let target = file.map_or("standard output".to_owned(), |file| format!("`{}`", file.display()));
    match (send, no_output) {
        (_, true) => "Sending standard input to the port, then ending.".to_owned(),
        (true, false) => {
            format!("Copying standard input to the port, and the port to {target}; Ctrl-C ends it.")
        }
        (false, false) => format!("Copying the port to {target}; Ctrl-C ends it."),
    }
}

async fn target(
    file: Option<&PathBuf>,
    append: bool,
) -> Result<Box<dyn AsyncWrite + Send + Unpin>> {
    let Some(path) = file else { return Ok(Box::new(output()?)) };
    let mut options = tokio::fs::OpenOptions::new();
    options.create(true).write(true).append(append).truncate(!append);
    let file = options.open(path).await.map_err(Error::from);
    Ok(Box::new(file.with_context(|| format!("opening {}", path.display()))?))
}

/// Sends standard input to its end, and then that end. Returns the writer and the number of bytes.
async fn forward(mut writer: ChannelWriter) -> Result<(ChannelWriter, u64)> {
    let mut input = Input::of_stdin()?;
    let mut sent = 0;
    while let Some(bytes) = input.next().await? {
        sent += bytes.len() as u64;
        writer.send(bytes).await?;
    }
    writer.finish().await?;
    Ok((writer, sent))
}

async fn receive(mut reader: ChannelReader, mut out: impl AsyncWrite + Unpin) -> Result<()> {
    while let Some(bytes) = reader.receive().await? {
        out.write_all(&bytes).await?;
        out.flush().await?;
    }
    Ok(())
}

async fn discard(mut reader: ChannelReader) -> Result<()> {
    while reader.receive().await?.is_some() {}
    Ok(())
}
