//! Completion: a script for the shell, which asks this program at each TAB.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use clap::{ArgMatches, Command};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};
use jumpstarter_client::{ConnectOptions, connect};
use jumpstarter_driver_core::{Device, Node};

use super::fault::SUCCESS;
use super::{arguments, method, tree};
use crate::print::first_line;

/// The shells that there are scripts for.
pub(crate) const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];
/// The scripts set it to the shell's name when they ask.
const VARIABLE: &str = "COMPLETE";
/// A person who pressed TAB waits so long at most.
const PATIENCE: Duration = Duration::from_secs(1);

/// Prints the script.
pub(crate) fn registration(matches: &ArgMatches) -> Result<u8> {
    let shell = matches.get_one::<String>("shell").map_or("bash", String::as_str);
    let mut script = Vec::new();
    write_registration(shell, &mut script)?;
    std::io::stdout().lock().write_all(&script)?;
    Ok(SUCCESS)
}

/// The script for `j`.
pub(crate) fn write_registration(shell: &str, script: &mut dyn Write) -> Result<()> {
    // By its name: the script outlives where the program is now.
    completer(shell)?.write_registration(VARIABLE, "j", "j", "j", script)?;
    Ok(())
}

fn completer(shell: &str) -> Result<&'static dyn EnvCompleter> {
    match shell {
        "bash" => Ok(&Bash),
        "zsh" => Ok(&Zsh),
        "fish" => Ok(&Fish),
        other => anyhow::bail!("there is no completion for the shell `{other}`"),
    }
}

/// The shell that asks, if one does.
pub(crate) fn asked_by() -> Option<String> {
    std::env::var(VARIABLE).ok().filter(|shell| !shell.is_empty() && shell != "0")
}

/// Answers a script: the arguments after `--` are the line so far.
pub(crate) async fn answer(shell: &str, arguments: &[OsString]) -> Result<u8> {
    let line: Vec<OsString> =
        arguments.iter().skip_while(|word| *word != "--").skip(1).cloned().collect();
    let mut command = match tokio::time::timeout(PATIENCE, device()).await {
        Ok(Some(device)) => with_paths(tree::completing(&device, &line), &device, &line),
        _ => arguments::deviceless(),
    };
    command.build();
    let mut candidates = Vec::new();
    let folder = std::env::current_dir().ok();
    completer(shell)?.write_complete(&mut command, line, folder.as_deref(), &mut candidates)?;
    std::io::stdout().lock().write_all(&candidates)?;
    Ok(SUCCESS)
}

/// The exporter's device. One of this process is not opened: drivers take hold of hardware.
async fn device() -> Option<Device> {
    let options = ConnectOptions::from_env().ok()?.connect_timeout(PATIENCE);
    Some(connect(&options).await.ok()?.device().clone())
}

/// Completes the arguments PATH and METHOD.
fn with_paths(command: Command, device: &Device, line: &[OsString]) -> Command {
    let chosen = line
        .iter()
        .skip_while(|word| !["call", "stream"].map(OsStr::new).contains(&word.as_os_str()));
    let chosen = chosen.map(|word| word.to_string_lossy().into_owned()).nth(1).unwrap_or_default();
    let (paths, methods) = (paths(device), methods(device, &chosen));
    ["call", "stream", "tree"].into_iter().fold(command, |command, name| {
        let (paths, methods) = (paths.clone(), methods.clone());
        let has = |command: &Command, name: &str| {
            command.find_subcommand(name).is_some_and(|command| {
                command.get_arguments().any(|argument| argument.get_id() == "path")
            })
        };
        if !has(&command, name) {
            // A driver of that name.
            return command;
        }
        command.mut_subcommand(name, |command| {
            let takes_method =
                command.get_arguments().any(|argument| argument.get_id() == "method");
            let paths = ArgValueCandidates::new(move || candidates(&paths));
            let command = command.mut_arg("path", |argument| argument.add(paths));
            match takes_method {
                true => command.mut_arg("method", |argument| {
                    argument.add(ArgValueCandidates::new(move || candidates(&methods)))
                }),
                false => command,
            }
        })
    })
}

/// What can be written, and what it is.
fn candidates(words: &[(String, String)]) -> Vec<CompletionCandidate> {
    words
        .iter()
        .map(|(word, help)| CompletionCandidate::new(word).help(Some(help.clone().into())))
        .collect()
}

/// Whether a shell takes it for the word that it is: what it completes, it executes later.
pub(crate) fn is_plain(word: &str) -> bool {
    let plain = |letter: char| letter.is_alphanumeric() || "-_.:/@+,%".contains(letter);
    !word.is_empty() && !word.starts_with('-') && word.chars().all(plain)
}

fn paths(device: &Device) -> Vec<(String, String)> {
    let nodes = device.nodes().iter().filter(|node| is_plain(node.path()));
    nodes.map(|node| (node.path().to_owned(), tree::about(node))).collect()
}

fn methods(device: &Device, path: &str) -> Vec<(String, String)> {
    let node = device.node(path).ok();
    let known = node.into_iter().flat_map(Node::interfaces).flat_map(|interface| interface.methods);
    let known = known.map(|method| (method.name.to_owned(), method.signature()));
    let described = node.into_iter().flat_map(Node::methods_description);
    let unknown = described.filter(|(name, _)| {
        is_plain(name) && node.is_some_and(|node| method::find(node, name).is_none())
    });
    known.chain(unknown.map(|(name, text)| (name.clone(), first_line(text)))).collect()
}
