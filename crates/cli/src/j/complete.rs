//! Completion: answers a shell's script at each TAB.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use clap::{Command, ValueEnum};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use jumpstarter_client::{ConnectOptions, connect};
use jumpstarter_driver_core::{Device, Error, Node};

use super::completions::{Shell, VARIABLE};
use super::described::Form;
use super::names::{about, is_plain};
use super::own::OwnMethods;
use super::{method, tree};
use crate::environment::Environment;
use crate::fault::{Result, SUCCESS};
use crate::print::first_line;

/// The longest wait: a person pressed TAB.
const PATIENCE: Duration = Duration::from_secs(1);

/// The shell that asks for completions, if any.
pub(crate) fn asked_by(environment: &Environment) -> Option<String> {
    let shell = environment.variable(VARIABLE)?.into_string().ok()?;
    Some(shell).filter(|shell| shell != "0")
}

/// Answers the script of a shell: the arguments after `--` are the line so far.
pub(crate) async fn answer(
    shell: &str,
    arguments: &[OsString],
    environment: &Environment,
) -> Result<u8> {
    let completer = Shell::from_str(shell, false)
        .map_err(|_| {
            Error::unimplemented(format!("there is no completion for the shell `{shell}`"))
        })?
        .completer();
    let line: Vec<OsString> =
        arguments.iter().skip_while(|word| *word != "--").skip(1).cloned().collect();
    let mut command = match tokio::time::timeout(PATIENCE, device(environment)).await {
        Ok(Some(device)) => {
            let own = OwnMethods::of_named(&device, &line);
            let own = tokio::time::timeout(PATIENCE, own).await;
            let own = own.ok().and_then(Result::ok).unwrap_or_default();
            with_paths(tree::completing(&device, &own, &line), &device, &line)
        }
        _ => tree::deviceless(),
    };
    command.build();
    let mut candidates = Vec::new();
    let folder = std::env::current_dir().ok();
    completer.write_complete(&mut command, line, folder.as_deref(), &mut candidates)?;
    environment.script(&candidates)?;
    Ok(SUCCESS)
}

/// The exporter's device. A local device is not opened: its drivers would take hold of hardware.
async fn device(environment: &Environment) -> Option<Device> {
    let options = ConnectOptions::from_variables(|name| environment.variable(name)).ok()?;
    Some(connect(&options.connect_timeout(PATIENCE)).await.ok()?.device().clone())
}

/// Completes the arguments PATH and METHOD.
fn with_paths(command: Command, device: &Device, line: &[OsString]) -> Command {
    let chosen = line
        .iter()
        .skip_while(|word| !["call", "stream"].map(OsStr::new).contains(&word.as_os_str()));
    let chosen = chosen.map(|word| word.to_string_lossy().into_owned()).nth(1).unwrap_or_default();
    let (paths, methods) = (paths(device), methods(device, &chosen));
    ["call", "stream", "tree"].into_iter().fold(command, |command, name| {
        if command.find_subcommand(name).is_none() {
            // A driver has this name and takes no such arguments.
            return command;
        }
        command.mut_subcommand(name, |command| {
            command.mut_args(|argument| match argument.get_id().as_str() {
                "path" => argument.add(completing(&paths)),
                "method" => argument.add(completing(&methods)),
                _ => argument,
            })
        })
    })
}

/// Completes an argument with these words.
fn completing(words: &[(String, String)]) -> ArgValueCandidates {
    let words = words.to_vec();
    ArgValueCandidates::new(move || candidates(&words))
}

/// Each word that can be written, and its description.
fn candidates(words: &[(String, String)]) -> Vec<CompletionCandidate> {
    words
        .iter()
        .map(|(word, help)| CompletionCandidate::new(word).help(Some(help.clone().into())))
        .collect()
}

fn paths(device: &Device) -> Vec<(String, String)> {
    let nodes = device.nodes().iter().filter(|node| is_plain(node.path()));
    nodes.map(|node| (node.path().to_owned(), about(node))).collect()
}

fn methods(device: &Device, path: &str) -> Vec<(String, String)> {
    let node = device.node(path).ok();
    let known = node.into_iter().flat_map(Node::interfaces).flat_map(|interface| interface.methods);
    let known = known.map(|method| (method.name.to_owned(), method.signature()));
    let described = node.into_iter().flat_map(Node::methods_description);
    let described =
        described.map(|(form, text)| (Form::parse(form).method().to_owned(), first_line(text)));
    let unknown = described.filter(|(name, _)| {
        is_plain(name) && node.is_some_and(|node| method::find(node, name).is_none())
    });
    let mut all: Vec<_> = known.chain(unknown).collect();
    all.dedup_by(|next, one| next.0 == one.0);
    all
}
