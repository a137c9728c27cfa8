//! Methods without a verb: called by name with the arguments of the command line.

use clap::{Arg, ArgMatches, Command};
use futures_util::StreamExt;
use jumpstarter_driver_core::{
    Argument, Arguments, Error, JsonType, MethodDescriptor, Node, ParameterDescriptor,
    ParameterKind, Reply,
};
use serde_json::Value;

use super::context::Context;
use super::{image, pump};
use crate::fault::{Fault, Result, SUCCESS};

/// The method's name on the command line.
pub(crate) fn verb_name(method: &MethodDescriptor) -> String {
    method.name.replace('_', "-")
}

/// Adds the method's parameters.
pub(crate) fn with_parameters(command: Command, method: &MethodDescriptor) -> Command {
    command.args(method.parameters.iter().enumerate().map(|(position, parameter)| {
        let help = match parameter.kind {
            ParameterKind::Source => "The image: a file, a URL, or - for standard input",
            ParameterKind::Sink => "Where the image goes: a file, or - for standard output",
            _ => parameter.type_name,
        };
        let is_rest = parameter.kind == ParameterKind::Rest;
        let argument = Arg::new(parameter.name)
            .index(position + 1)
            .value_name(parameter.name.to_uppercase())
            .required(!parameter.optional)
            .allow_negative_numbers(true)
            .help(help);
        if is_rest { argument.num_args(0..).trailing_var_arg(true) } else { argument }
    }))
}

/// Calls the method with the arguments that [`with_parameters`] describes.
pub(crate) async fn run(
    context: &Context,
    method: &MethodDescriptor,
    matches: &ArgMatches,
) -> Result<u8> {
    let words =
        method.parameters.iter().map_while(|parameter| matches.get_many::<String>(parameter.name));
    let words = words.flatten();
    let arguments = arguments(Some(method), words)?;
    let reply = context.node()?.caller().invoke(method.name, method.kind, arguments).await?;
    answer(context, Some(method), reply).await
}

/// The method of that name, if the driver's interfaces are known and have it.
pub(crate) fn find(node: &Node, name: &str) -> Option<&'static MethodDescriptor> {
    node.interfaces().iter().find_map(|interface| interface.method(name))
}

/// Converts words to the arguments of a call: each is JSON, or else text. For a known method the
/// parameters decide: text stays text, and images are files, URLs or `-`.
pub(crate) fn arguments<'a>(
    method: Option<&MethodDescriptor>,
    words: impl IntoIterator<Item = &'a String>,
) -> Result<Arguments> {
    let words: Vec<&String> = words.into_iter().collect();
    if let Some(method) = method {
        let least = method.parameters.iter().filter(|parameter| !parameter.optional).count();
        if words.len() < least || (words.len() > method.parameters.len() && !method.is_variadic()) {
            let message = format!("`{}` is given {} argument(s)", method.name, words.len());
            return Err(Fault::usage(message, format!("its form is {}", method.signature())));
        }
    }
    let parameter = |position| method.and_then(|method| method.parameter(position));
    let arguments =
        words.iter().enumerate().map(|(position, word)| argument(parameter(position), word));
    arguments.collect()
}

fn argument(parameter: Option<&ParameterDescriptor>, word: &str) -> Result<Argument> {
    let text = parameter.and_then(|parameter| parameter.value).is_some_and(|value| {
        value.json_types().iter().all(|one| matches!(one, JsonType::Text | JsonType::Null))
    });
    Ok(match parameter.map(|parameter| parameter.kind) {
        Some(ParameterKind::Source) => {
            Argument::Source(image::source_without_bucket(word.as_ref())?)
        }
        Some(ParameterKind::Sink) => Argument::Sink(image::sink(word.as_ref())?),
        _ if text => Argument::Value(Value::from(word)),
        _ => Argument::Value(serde_json::from_str(word).unwrap_or_else(|_| Value::from(word))),
    })
}

/// Prints the answer of a call: a value, a line for each value of a stream, the bytes of a channel.
/// A known method's type decides how numbers are shown, as with verbs.
pub(crate) async fn answer(
    context: &Context,
    method: Option<&MethodDescriptor>,
    reply: Reply,
) -> Result<u8> {
    let result = method.and_then(|method| method.result);
    let typed = |value| match result {
        Some(result) => result.typed(value),
        None => value,
    };
    match reply {
        Reply::Value(value) => context.output.value(&typed(value))?,
        Reply::Stream(mut values) => {
            while let Some(value) = values.next().await {
                context.output.value(&typed(value?))?;
            }
        }
        Reply::Channel(channel) => pump::standard_streams(channel).await?,
        _ => {
            return Err(Error::internal("this program cannot show what the call answered").into());
        }
    }
    Ok(SUCCESS)
}
