//! The actions that a driver offers on the command line.

use clap::ArgMatches;
use jumpstarter_driver_core::{MethodDescriptor, Node};

use super::context::Context;
use super::own::{self, OwnMethods};
use super::verb::Verb;
use super::{call, described, method, verbs};
use crate::fault::Result;
use crate::print::{self, first_line, line};

/// One action of a driver, or of the whole device.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// A verb, and the method whose documentation is its help, if any.
    Verb(&'static Verb, Option<&'static MethodDescriptor>),
    /// A method that has no verb.
    Method(&'static MethodDescriptor),
    /// A method that the driver's configuration names.
    Own(String),
    /// A method that only the exporter describes: this program does not know its interface.
    Described(described::Form),
    /// `call` or `stream`: any method by its name.
    Generic(&'static Verb),
}

/// The actions of the driver of `node`: the methods that it lists itself, the verbs of its
/// interfaces in their order, their other methods, the methods that only a description names, and
/// the generic verbs.
pub(crate) fn of(node: &Node, own: &OwnMethods) -> Vec<Action> {
    let own = own.of(node).iter().map(|method| Action::Own(method.clone()));
    let verbs = verbs::of_client(node.client()).iter().chain(verbs::of_protocol(node));
    let verbs = verbs.map(|verb| Action::Verb(verb, None));
    let of_interfaces = node.interfaces().iter().flat_map(|interface| {
        let verbs = verbs::of(interface.name);
        let with_method = |verb: &'static Verb| interface.method(&verb.name.replace('-', "_"));
        let methods = interface.methods.iter();
        let methods =
            methods.filter(|method| !verbs::covered(interface.name).contains(&method.name));
        let verbs = verbs.iter().map(move |verb| Action::Verb(verb, with_method(verb)));
        verbs.chain(methods.map(Action::Method))
    });
    let described = described::of(node).into_iter().map(Action::Described);
    let is_group = node.interfaces_known() && node.interfaces().is_empty();
    let generic = call::OF_A_DRIVER.iter().filter(|_| !is_group).map(Action::Generic);
    let mut actions: Vec<Action> = Vec::new();
    for action in own.chain(verbs).chain(of_interfaces).chain(described).chain(generic) {
        if !actions.iter().any(|other| other.name() == action.name()) {
            actions.push(action);
        }
    }
    actions
}

impl Action {
    /// The action's name on the command line.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Verb(verb, _) | Self::Generic(verb) => verb.name.to_owned(),
            Self::Method(method) => method::verb_name(method),
            Self::Own(method) => line(method).into_owned(),
            Self::Described(form) => form.verb_name(),
        }
    }

    /// Whether lists omit it, because `j call` and `j stream` do the same and the driver has verbs.
    pub(crate) fn is_hidden(&self, node: &Node) -> bool {
        matches!(self, Self::Generic(_)) && node.interfaces_known()
    }

    /// The parser of the action; `prefix` is the words before it, such as `j qemu power`.
    pub(crate) fn command(&self, node: &Node, prefix: &str) -> clap::Command {
        let command = clap::Command::new(self.name());
        let command = match self {
            Self::Verb(verb, Some(method)) => (verb.command)(documented(command, method)),
            Self::Verb(verb, None) => (verb.command)(command),
            Self::Generic(verb) => (verb.command)(command).hide(self.is_hidden(node)),
            Self::Own(method) => own::command(command, method),
            Self::Described(form) => form.command(command),
            Self::Method(method) => method::with_parameters(documented(command, method), method),
        };
        let name = self.name();
        let is_plain = |(method, _): &&(String, String)| {
            *method == name || line(&method.replace('_', "-")) == name
        };
        let is_form =
            |(form, _): &&(String, String)| described::Form::parse(form).verb_name() == name;
        let mut descriptions = node.methods_description().iter();
        let description =
            descriptions.clone().find(is_plain).or_else(|| descriptions.find(is_form));
        let command = match description {
            Some((_, text)) => command.about(first_line(text)).long_about(print::paragraphs(text)),
            None => command,
        };
        with_prefix(command, prefix)
    }

    /// Runs the action.
    pub(crate) async fn run(&self, context: &Context, matches: &ArgMatches) -> Result<u8> {
        match self {
            Self::Verb(verb, _) | Self::Generic(verb) => (verb.run)(context, matches).await,
            Self::Method(method) => method::run(context, method, matches).await,
            Self::Own(method) => own::run(context, method, matches).await,
            Self::Described(form) => form.run(context, matches).await,
        }
    }
}

/// Adds the documentation: the first sentence for lists, everything for the command's help.
fn documented(command: clap::Command, method: &MethodDescriptor) -> clap::Command {
    command.about(method.summary()).long_about(unwrapped(method.documentation))
}

/// Joins each paragraph to one line: the terminal's width wraps it.
fn unwrapped(documentation: &str) -> String {
    let paragraphs = documentation.trim().split("\n\n");
    let joined =
        paragraphs.map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    joined.collect::<Vec<_>>().join("\n\n")
}

/// Replaces `{path}` in the examples by the words before the verb.
fn with_prefix(command: clap::Command, prefix: &str) -> clap::Command {
    match command.get_after_help().map(ToString::to_string) {
        Some(text) => command.after_help(text.replace("{path}", prefix)),
        None => command,
    }
}
