//! `start-console`: connects this terminal to the device's console.

use bytes::Bytes;
use jumpstarter_driver_core::{ChannelReader, ChannelWriter, Error, ResultExt, Serial};
use jumpstarter_supervise::{Heeded, Signal};
use tokio::io::AsyncWriteExt;

use crate::fault::{HUNG_UP, QUIT, Result, SUCCESS};
use crate::j::context::Context;
use crate::j::verb::Say;
use crate::terminal::{Input, RawTerminal, is_interactive, output};

/// The code of Ctrl-B.
const LEAVE: u8 = 0x02;
/// How many in a row leave the console.
const TIMES: u8 = 3;

/// Why the console session ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The user left.
    Left,
    /// The device closed its side.
    Ended,
    /// This terminal was closed.
    HungUp,
}

/// Connects this terminal to the console, until Ctrl-B is pressed three times
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  {path} start-console\n  jmp shell --exporter lab -- {path} start-console"
)]
pub(super) struct StartConsole {}

impl Say for StartConsole {
    const NAME: &'static str = "start-console";

    async fn run(self, context: &Context) -> Result<u8> {
        require_terminal()?;
        attend(context, &context.path).await
    }
}

/// Fails where a person cannot use a console.
pub(in crate::j::verbs) fn require_terminal() -> Result<()> {
    match is_interactive() {
        true => Ok(()),
        false => Err(Error::failed_precondition("a console needs a terminal, and standard input is not one")
            .with_hint(
                "for scripts there is `pipe`: it copies standard input to the port and its output to a file",
            )
            .into()),
    }
}

/// Connects this terminal to the console at `path`, until the user leaves.
pub(in crate::j::verbs) async fn attend(context: &Context, path: &str) -> Result<u8> {
    let mut hang_up = Heeded::new(Signal::HUP)?;
    let mut quit = Heeded::new(Signal::QUIT)?;
    let (reader, writer) = context.device().get::<dyn Serial>(path)?.connect().await?.split();
    context.output.note(format_args!("Console of `{}`: press Ctrl-B three times to leave.", path));
    let raw = RawTerminal::enter()?;
    // Other signals drop this future, which restores the terminal as well.
    let end = tokio::select! {
        end = converse(reader, writer) => end,
        () = hang_up.recv() => Ok(End::HungUp),
        () = quit.recv() => return Ok(QUIT),
    };
    drop(raw);
    // The device's last line rarely ends with a newline.
    context.output.note("");
    match end? {
        End::Left => {
            context.output.note(format_args!("Left the console of `{}`.", path));
            Ok(SUCCESS)
        }
        End::HungUp => Ok(HUNG_UP),
        End::Ended => Err(Error::unavailable(format!("the console of `{}` ended", path))
            .with_hint("check that the exporter is running: it or the device closed the connection")
            .into()),
    }
}

/// Copies bytes in both directions.
async fn converse(
    reader: ChannelReader,
    writer: ChannelWriter,
) -> jumpstarter_driver_core::Result<End> {
    let input = Input::of_stdin().context("reading the terminal")?;
    tokio::select! {
        end = to_device(input, writer) => end,
        end = to_terminal(reader) => end,
    }
}

async fn to_device(
    mut input: Input,
    mut writer: ChannelWriter,
) -> jumpstarter_driver_core::Result<End> {
    let mut escape = Escape::default();
    while let Some(keys) = input.next().await.context("reading the terminal")? {
        let keep = escape.before_leaving(&keys);
        writer.send(keys.slice(..keep.unwrap_or(keys.len()))).await?;
        if keep.is_some() {
            return Ok(End::Left);
        }
    }
    Ok(End::HungUp)
}

async fn to_terminal(mut reader: ChannelReader) -> jumpstarter_driver_core::Result<End> {
    let mut out = output().context("writing to the terminal")?;
    while let Some(bytes) = reader.receive().await? {
        out.write_all(&bytes).await.context("writing to the terminal")?;
        out.flush().await.context("writing to the terminal")?;
    }
    Ok(End::Ended)
}

/// Finds the keys that leave. All other keys, and the first two Ctrl-B, go to the device.
#[derive(Debug, Default)]
struct Escape {
    /// The number of Ctrl-B received last.
    count: u8,
}

impl Escape {
    /// The number of these keys before the one that leaves; `None` if none does.
    fn before_leaving(&mut self, keys: &Bytes) -> Option<usize> {
        keys.iter().position(|key| {
            self.count = if *key == LEAVE { self.count + 1 } else { 0 };
            self.count == TIMES
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_in_a_row_leave() {
        let leaves = |chunks: &[&'static [u8]]| {
            let mut escape = Escape::default();
            chunks
                .iter()
                .map(|keys| escape.before_leaving(&Bytes::from_static(keys)))
                .collect::<Vec<_>>()
        };
        assert_eq!(leaves(&[b"ls\r"]), [None]);
        assert_eq!(leaves(&[b"\x02\x02\x02"]), [Some(2)]);
        assert_eq!(leaves(&[b"a\x02", b"\x02", b"\x02b"]), [None, None, Some(0)]);
        assert_eq!(leaves(&[b"\x02\x02x\x02\x02", b"y\x02"]), [None, None]);
        assert_eq!(leaves(&[b"\x02\x02x\x02\x02\x02z"]), [Some(5)]);
    }
}
