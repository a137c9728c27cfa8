//! `j`: one device at a shell. Its commands are those of the device's own tree.
//!
//! [`tree`] makes a command line from the tree of drivers; [`verbs`] has what is said to each
//! interface, [`method`] what is said to interfaces without verbs of their own, [`builtin`] the
//! commands that every device has.

use std::ffi::OsString;
use std::pin::pin;

use anyhow::Result;
use clap::error::ErrorKind;

mod action;
mod arguments;
mod builtin;
mod call;
mod complete;
mod context;
pub(crate) mod fault;
mod image;
mod interrupt;
mod log;
mod method;
mod open;
mod outline;
mod output;
mod progress;
mod pump;
mod tree;
mod unknown;
mod verbs;

use crate::arguments::Format;
use context::Context;
use interrupt::{Interrupts, Signals};
use open::Opened;

/// `j` with the commands that every device has.
pub(crate) fn command() -> clap::Command {
    arguments::deviceless()
}

/// Runs `j` with these arguments, the first of which is the program's name, and answers the exit
/// code.
pub(crate) fn run(arguments: Vec<OsString>) -> u8 {
    // One thread: starting more costs more than a call.
    match crate::runtime::single() {
        Ok(runtime) => {
            let code = runtime.block_on(session(&arguments));
            // Not waited for: a read of standard input may never end.
            runtime.shutdown_background();
            jumpstarter_daemon::Log::flush();
            code
        }
        Err(error) => fault::tell(&error.into(), Format::Text),
    }
}

async fn session(arguments: &[OsString]) -> u8 {
    if let Some(shell) = complete::asked_by() {
        let answered = complete::answer(&shell, arguments).await;
        return answered.unwrap_or_else(|error| fault::tell(&error, Format::Text));
    }
    let early = match arguments::scan(arguments) {
        Ok(early) => early,
        Err(usage) => return fault::usage(&usage, arguments::wanted_output(arguments)),
    };
    attempt(arguments, &early).await.unwrap_or_else(|error| fault::tell(&error, early.output))
}

async fn attempt(arguments: &[OsString], early: &arguments::Early) -> Result<u8> {
    if early.needs_no_device {
        return arguments::without_device(arguments);
    }
    // Drivers take hold of hardware when they are opened: not for a page of help.
    if let Some(code) = help_unopened(arguments, early) {
        return Ok(code);
    }
    if early.is_help
        && open::is_in_process(early)
        && let Some(code) = arguments::help_without_device(
            arguments,
            &"they need the device to be opened; see `j tree`",
        )
    {
        return Ok(code);
    }
    let mut signals = Signals::install()?;
    let opened = tokio::select! {
        biased;
        opened = open::open(early) => opened,
        code = signals.next() => return Ok(code),
    };
    let opened = match opened {
        Ok(opened) => opened,
        // Help needs no device; whatever else is asked for, this is what is wrong.
        Err(error) => {
            return arguments::help_without_device(arguments, &format!("{error:#}")).ok_or(error);
        }
    };
    let device = opened.device.clone();
    let outcome = perform(arguments, early, opened, &mut signals).await;
    tokio::select! {
        biased;
        closed = device.close() => outcome.and_then(|code| Ok(closed.map(|()| code)?)),
        code = signals.next() => Ok(code),
    }
}

/// Prints the help that was asked for, of a device of this process, from its exporter file alone,
/// and answers the exit code. Nothing for anything else, and where only opening the device tells.
fn help_unopened(arguments: &[OsString], early: &arguments::Early) -> Option<u8> {
    if !arguments.iter().any(|word| word == "--help" || word == "-h") {
        return None;
    }
    let device = open::file(early)?.ok()?.unopened()?;
    let usage = tree::command(&device, arguments).try_get_matches_from(arguments).err()?;
    (usage.kind() == ErrorKind::DisplayHelp).then(|| fault::usage(&usage, Format::Text))
}

/// Does what the arguments say; what a signal or the loss of the exporter ends is cancelled.
async fn perform(
    arguments: &[OsString],
    early: &arguments::Early,
    opened: Opened,
    signals: &mut Signals,
) -> Result<u8> {
    let mut command = tree::command(&opened.device, arguments);
    let matches = match command.try_get_matches_from_mut(arguments) {
        Ok(matches) => matches,
        Err(usage) => {
            return unknown::explain(&usage, &mut command, &opened.device, arguments, early.output);
        }
    };
    let chosen = tree::chosen(&opened.device, &matches)?;
    let interrupts = Interrupts::default();
    let context = Context::new(opened, chosen.path, chosen.matches, interrupts.clone());
    let mut work = pin!(chosen.action.run(&context, chosen.matches));
    loop {
        tokio::select! {
            biased;
            outcome = &mut work => return context.judge(outcome).await,
            code = signals.next() => if !interrupts.tell() { return Ok(code) },
            error = context.lost() => return Err(fault::Fault::Unreachable(error).into()),
        }
    }
}
