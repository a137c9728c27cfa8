//! `j` uses one device at a shell. Its commands follow the device's tree.
//!
//! [`options`] takes the options of `j` out of the command line; [`tree`] makes the rest a command
//! of the device's tree. [`verbs`] has the verbs of each interface, [`method`] calls methods
//! without a verb, [`builtin`] has the commands of every device.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::pin::pin;

use clap::error::ErrorKind;
use jumpstarter_driver_core::Device;

mod action;
mod browser;
mod builtin;
mod call;
mod complete;
mod completions;
mod context;
mod described;
mod image;
pub(crate) mod interrupt;
mod log;
mod method;
mod names;
mod options;
mod outline;
mod output;
mod own;
mod progress;
mod pump;
mod status;
mod tree;
mod unknown;
mod verb;
mod verbs;

use crate::environment::Environment;
use crate::fault::{self, Fault, Result};
use crate::format::Format;
use crate::print::line;
use crate::serving::Log;
use crate::target::{Found, Opened};
use context::Context;
use interrupt::{Interrupts, Signals};
use options::Options;
use output::Output;
use own::OwnMethods;

/// The parser of `j` with the commands that every device has.
pub(crate) fn command() -> clap::Command {
    tree::deviceless()
}

/// Runs `j` and returns the exit code. The first argument is the program's name. Log options that
/// the command line lacks come from `outer`.
pub(crate) fn run(arguments: &[OsString], outer: Option<&Log>, environment: &Environment) -> u8 {
    // One thread: starting more costs more than a call.
    let runtime = match crate::runtime::single() {
        Ok(runtime) => runtime,
        Err(error) => return fault::conclude(Err(error.into()), Format::Text, environment),
    };
    let none = Log::default();
    let outer = outer.unwrap_or(&none);
    let code = runtime.block_on(async {
        if let Some(shell) = complete::asked_by(environment) {
            let answered = complete::answer(&shell, arguments, environment).await;
            return fault::conclude(answered, Format::Text, environment);
        }
        let (format, taken) = Options::take(arguments);
        let outcome = match taken {
            Ok((options, words)) => Session { options, words, environment }.run(outer).await,
            Err(fault) => Err(fault),
        };
        fault::conclude(outcome, format, environment)
    });
    // No waiting for threads: a read of standard input may never end.
    runtime.shutdown_background();
    jumpstarter_daemon::Log::flush();
    code
}

/// One command of `j`.
struct Session<'a> {
    options: Options,
    /// The command line without the options of `j`.
    words: Vec<OsString>,
    environment: &'a Environment,
}

impl Session<'_> {
    async fn run(&self, outer: &Log) -> Result<u8> {
        if let Some(completions) = tree::completions(&self.words)? {
            return completions.print(self.environment);
        }
        if let Some(version) = page(tree::deviceless(), &self.words, ErrorKind::DisplayVersion) {
            return Err(version);
        }
        // Each command would print the file's warnings again; `jmp check` prints them once.
        let found = match self.options.target.find(self.environment, &mut io::sink()) {
            Ok(found) => found,
            Err(fault) => return self.help_without_device(fault.while_opening()),
        };
        // Opening drivers takes hold of hardware, which help does not need.
        if let Found::File(config) = &found
            && let Some(page) = self.help_unopened(config.unopened())
        {
            return Err(page);
        }
        // Nor does a page of help need a lease.
        if matches!(found, Found::Leased(_))
            && let Some(page) = self.help_unopened(None)
        {
            return Err(page);
        }
        self.options.log.install_for_one_command(outer)?;
        let mut signals = Signals::install()?;
        let opened = tokio::select! {
            biased;
            opened = found.open() => opened,
            code = signals.next() => return Ok(code),
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(fault) => return self.help_without_device(fault.while_opening()),
        };
        let device = opened.device.clone();
        let outcome = self.perform(opened, &mut signals).await;
        tokio::select! {
            biased;
            closed = device.close() => outcome.and_then(|code| Ok(closed.map(|()| code)?)),
            code = signals.next() => Ok(code),
        }
    }

    /// Runs the command. A signal, or the loss of the exporter, cancels it.
    async fn perform(&self, opened: Opened, signals: &mut Signals) -> Result<u8> {
        let own = OwnMethods::of_named(&opened.device, &self.words).await?;
        let words = tree::with_default_verb(&opened.device, &self.words);
        let mut command = tree::command(&opened.device, &own, &words);
        let matches = match command.try_get_matches_from_mut(&words) {
            Ok(matches) => matches,
            Err(usage) => {
                return Err(unknown::explain(usage, &command, &opened.device, &words));
            }
        };
        let chosen = tree::chosen(&opened.device, &own, &matches)?;
        // Below a driver called `pipe` the device's own parser finds the option.
        let late = matches.try_get_one::<Format>("output").ok().flatten().copied();
        let format = self.options.output.or(late).unwrap_or_default();
        let output = Output::new(format, self.environment.clone());
        let interrupts = Interrupts::default();
        let context = Context::new(opened, chosen.path, output, interrupts.clone());
        let mut work = pin!(chosen.action.run(&context, chosen.matches));
        loop {
            tokio::select! {
                biased;
                outcome = &mut work => return context.judge(outcome).await,
                code = signals.next() => if !interrupts.send() { return Ok(code) },
                error = context.opened.lost() => return Err(Fault::Unreachable(error)),
            }
        }
    }

    /// The page of help that the words ask for, from a device that is not opened. Without a device
    /// only the page of `j` itself. `None` for anything else, and if only the open device has the
    /// page.
    fn help_unopened(&self, device: Option<Device>) -> Option<Fault> {
        if !options::ask_for_help(&self.words) {
            return None;
        }
        let Some(device) = device else {
            return match self.words.iter().skip(1).all(|word| word.as_bytes().starts_with(b"-")) {
                true => self.deviceless_help(&"they need the device to be opened; see `j tree`"),
                false => None,
            };
        };
        if own::named(&device, &self.words).next().is_some() {
            return None;
        }
        let own = OwnMethods::default();
        page(tree::command(&device, &own, &self.words), &self.words, ErrorKind::DisplayHelp)
    }

    /// Prints the page of help that the words ask for, of the commands that every device has.
    /// Without such a page, returns `fault`.
    fn help_without_device(&self, fault: Fault) -> Result<u8> {
        let why = match &fault {
            Fault::Usage(error) | Fault::Unreachable(error) => format!("{error:#}"),
            _ => String::new(),
        };
        Err(self.deviceless_help(&why).unwrap_or(fault))
    }

    fn deviceless_help(&self, why: &dyn std::fmt::Display) -> Option<Fault> {
        let page = page(tree::deviceless(), &self.words, ErrorKind::DisplayHelp)?;
        let why = line(&why.to_string()).into_owned();
        self.environment.report(format_args!("The device's own commands are not shown: {why}\n"));
        Some(page)
    }
}

/// The page of that kind that the parser prints, if any.
fn page(parser: clap::Command, words: &[OsString], kind: ErrorKind) -> Option<Fault> {
    let usage = parser.try_get_matches_from(words).err()?;
    (usage.kind() == kind).then(|| usage.into())
}
