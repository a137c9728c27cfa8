//! Verbs of QEMU machines that other exporters have, too.

use clap::{Args, Subcommand};
use jumpstarter_driver_core::{ByteSize, Error};
use serde_json::json;

use crate::fault::{Fault, Result};
use crate::j::context::Context;
use crate::j::verb::{Say, Verb};

pub(super) static VERBS: &[Verb] = &[Verb::of::<Resize>()];

/// Sets the size of the root disk or of the memory, from the next power-on
#[derive(Debug, Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "Examples:\n  {path} resize disk 20G\n  {path} resize memory 2G"
)]
struct Resize {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Sets the size of the root disk; it never shrinks
    Disk(Size),
    /// Sets the size of the memory
    Memory(Size),
}

#[derive(Debug, Args)]
struct Size {
    /// A size with its unit, such as 512M or 20G
    size: String,
}

impl Say for Resize {
    const NAME: &'static str = "resize";

    async fn run(self, context: &Context) -> Result<u8> {
        let (what, Size { size }) = match self.what {
            What::Disk(size) => ("disk", size),
            What::Memory(size) => ("memory", size),
        };
        let parsed = with_unit(&size).map_err(Fault::Usage)?;
        // Sent as text, which every exporter accepts; drivers in Python accept no numbers.
        let method = format!("set_{what}_size");
        context.device().call(&context.path, &method, vec![json!(size)]).await?;
        if !context.output.is_json() {
            context.output.note(format!("{what}: {parsed} from the next power-on"));
        }
        context.output.done()
    }
}

/// Parses a size with a unit: exporters differ on whether a bare number means bytes or MiB.
fn with_unit(text: &str) -> jumpstarter_driver_core::Result<ByteSize> {
    let parsed: ByteSize = text.parse()?;
    if text.trim().ends_with(|last: char| last.is_ascii_digit() || last == '.') {
        let number = text.trim();
        return Err(Error::invalid_argument(format!("`{number}` is a size without its unit"))
            .with_hint(format!("write `{number}M` or `{number}G`")));
    }
    Ok(parsed)
}
