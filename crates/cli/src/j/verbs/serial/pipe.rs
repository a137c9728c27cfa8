//! `pipe`: the port's bytes to standard output or a file, standard input's to the port.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use jumpstarter_driver_core::{ChannelReader, ChannelWriter, ResultExt, Serial};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::j::context::Context;
use crate::j::fault::{Fault, SUCCESS};
use crate::terminal::{Input, output};

/// What was sent last has so long to reach the port before the connection is cut. Only the other side's end says that
/// it did, and many ports never end.
const DELIVERY: Duration = Duration::from_secs(1);

pub(super) fn command(command: Command) -> Command {
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    command
        .about("Copies the port's output to standard output or a file, and standard input to the port")
        .long_about(
            "Copies the port's output to standard output or a file, and standard input to the port.\n\n\
             Standard input is copied when it is no terminal. At its end the port goes on being read, until Ctrl-C.",
        )
        // The name that the option of all commands has, which it stands in for.
        .arg(
            Arg::new("output")
                .short('o')
                .long("output")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Write to this file instead of standard output"),
        )
        .arg(flag("append").short('a').requires("output").help("Add to the file instead of replacing it"))
        .arg(flag("input").short('i').help("Copy standard input to the port, also from a terminal"))
        .arg(flag("no-input").conflicts_with("input").help("Copy nothing to the port"))
        .arg(
            flag("no-output")
                .conflicts_with_all(["output", "append", "no-input"])
                .help("Only copy standard input to the port, and end with it"),
        )
        .after_help(
            "\
Examples:
  {path} pipe                            show what the port says
  {path} pipe -o serial.log -a           keep it
  echo reboot | {path} pipe              send a line, and show what comes
  {path} pipe --no-output < commands     send a file and end",
        )
}

pub(super) async fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let piped = !std::io::stdin().is_terminal();
    let send = !matches.get_flag("no-input") && (matches.get_flag("input") || piped);
    let no_output = matches.get_flag("no-output");
    if no_output && !send {
        return Err(Fault::usage(
            "with --no-output there is nothing to do",
            "pipe something in, or add --input to type it",
        ));
    }
    // Without the option there may be the one of all commands, which is of another type.
    let file = matches.try_get_one::<PathBuf>("output").ok().flatten();
    let out = target(file, matches.get_flag("append")).await?;
    let (reader, writer) = context.get::<dyn Serial>()?.connect().await?.split();
    context.output.note(plan(send, no_output, file));
    if no_output {
        forward(writer).await?;
        tokio::time::timeout(DELIVERY, discard(reader)).await.unwrap_or(Ok(()))?;
        return Ok(SUCCESS);
    }
    let sending = async {
        // The writer is kept until the end: some ports take the end of one direction for that of both.
        let sent = if send { Some(forward(writer).await) } else { None };
        match sent {
            Some(Err(error)) => Err(error),
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = receive(reader, out) => {
            ended?;
            context.output.note("The port ended.");
        }
        failed = sending => failed?,
        () = context.interrupted() => context.output.note("Stopped."),
    }
    Ok(SUCCESS)
}

/// What is about to happen, and how to end it.
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

async fn target(file: Option<&PathBuf>, append: bool) -> Result<Box<dyn AsyncWrite + Send + Unpin>> {
    let Some(path) = file else { return Ok(Box::new(output()?)) };
    let mut options = tokio::fs::OpenOptions::new();
    options.create(true).write(true).append(append).truncate(!append);
    let file = options.open(path).await.map_err(jumpstarter_driver_core::Error::from);
    Ok(Box::new(file.with_context(|| format!("opening {}", path.display()))?))
}

/// Sends standard input to its end, and then that end.
async fn forward(mut writer: ChannelWriter) -> Result<ChannelWriter> {
    let mut input = Input::of_stdin()?;
    while let Some(bytes) = input.next().await? {
        writer.send(bytes).await?;
    }
    writer.finish().await?;
    Ok(writer)
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
