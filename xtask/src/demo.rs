//! `cargo xtask demo`: one command from a fresh machine to a virtual machine that was flashed,
//! booted and shut down.
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::guest::{self, Arch};
use crate::process::Interrupted;
use crate::program;
use crate::progress::note;
use crate::setup::{self, Policy};

/// Arguments of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The machine's architecture
    #[arg(long, value_enum, default_value_t = Arch::X86_64)]
    arch: Arch,
    /// What boots [default: tiny; pico where no Debian packages can be had]
    #[arg(long, value_enum, conflicts_with = "image")]
    guest: Option<Guest>,
    /// Flash this image instead: any Linux whose cloud-init makes the user of the exporter file
    #[arg(long, value_name = "PATH")]
    image: Option<PathBuf>,
    /// The exporter file, with a machine called `qemu` [default: examples/qemu.yaml, or the
    /// architecture's]
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// How to print what happened; json is one object on standard output
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    policy: Policy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Guest {
    /// The tiny Linux of `cargo xtask guest`
    Tiny,
    /// The guest of a few sectors that is built in; x86_64 only
    Pico,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A line for each step
    #[default]
    Text,
    /// One object
    Json,
}

/// Runs the task.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let (arch, policy) = (arguments.arch, arguments.policy);
    if arguments.guest == Some(Guest::Pico) && arch != Arch::X86_64 {
        bail!("the pico guest is for x86_64: leave out --arch {} or --guest pico", arch.name());
    }
    // Looked at before anything is installed.
    let image = arguments.image.as_deref().map(absolute).transpose()?;
    setup::ensure_qemu(&[arch], policy).await?;
    let guest = match image {
        Some(image) => ("other", Some(image)),
        None => built_in(arch, arguments.guest).await?,
    };
    let config = match &arguments.config {
        Some(path) => absolute(path)?,
        None => PathBuf::from(example(arch)),
    };
    let mut words: Vec<OsString> =
        vec!["--config".into(), config.into(), "--guest".into(), guest.0.into()];
    if let Some(image) = guest.1 {
        words.extend(["--image".into(), image.into()]);
    }
    if arguments.output == Output::Json {
        words.extend(["--output".into(), "json".into()]);
    }
    program::run("demo", words).await
}

/// The guest that was asked for; else the tiny Linux, or pico where that cannot be built.
async fn built_in(arch: Arch, asked: Option<Guest>) -> Result<(&'static str, Option<PathBuf>)> {
    if asked == Some(Guest::Pico) {
        return Ok(("pico", None));
    }
    match guest::ensure(arch).await {
        Ok(image) => Ok(("tiny", Some(image))),
        Err(error) if error.is::<Interrupted>() => Err(error),
        Err(error) if asked.is_none() && arch == Arch::X86_64 => {
            note(format_args!(
                "no tiny Linux: {error:#}\nthe pico guest, which is built in, boots instead"
            ));
            Ok(("pico", None))
        }
        Err(error) => Err(error.context("no guest to boot; --image PATH names another")),
    }
}

/// The exporter file of an architecture, from the workspace's root.
fn example(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "examples/qemu.yaml",
        Arch::Aarch64 => "examples/qemu-aarch64.yaml",
    }
}

/// The path of a file that must exist, from any folder.
fn absolute(path: &Path) -> Result<PathBuf> {
    path.canonicalize().with_context(|| format!("looking for {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn every_architecture_has_its_exporter_file() {
        for arch in Arch::value_variants() {
            let text = std::fs::read_to_string(workspace::root().join(example(*arch))).unwrap();
            assert!(text.contains(&format!("arch: {}\n", arch.name())), "{text}");
        }
    }
}
