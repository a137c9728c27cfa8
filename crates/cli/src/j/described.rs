//! Methods that only their exporter describes: this program does not know their interface.

use clap::{Arg, ArgMatches, Command};
use jumpstarter_driver_core::{ErrorKind, MethodKind, Node};

use super::context::Context;
use super::{call, method};
use crate::fault::Result;
use crate::print::line;

/// The most parameters of a form. A longer list is no form.
const MAX_PARAMETERS: usize = 32;
/// The identifier of arguments whose number is unknown.
const ARGUMENTS: &str = "arguments";

/// How an exporter names a method: `flash(source, target?)` if it knows the interface, or only
/// `flash`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    method: String,
    /// `None` if the exporter names only the method.
    parameters: Option<Vec<Parameter>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parameter {
    name: String,
    is_optional: bool,
    /// Whether it takes all further arguments.
    is_rest: bool,
}

/// The methods of a driver that only its exporter describes; those with parameters first.
pub(crate) fn of(node: &Node) -> Vec<Form> {
    let described = node.methods_description().iter().filter(|_| !node.interfaces_known());
    let mut forms: Vec<_> = described.map(|(form, _)| Form::parse(form)).collect();
    forms.sort_by_key(|form| form.parameters.is_none());
    forms
}

impl Form {
    /// Reads a key of a node's descriptions. Text that is no form is a method's name.
    pub(crate) fn parse(text: &str) -> Self {
        let parts = text.strip_suffix(')').and_then(|text| text.split_once('('));
        let form = parts.and_then(|(method, list)| Some((method, parameters(list)?)));
        match form {
            Some((method, parameters)) => {
                Self { method: method.to_owned(), parameters: Some(parameters) }
            }
            None => Self { method: text.to_owned(), parameters: None },
        }
    }

    /// The method's name on the wire.
    pub(crate) fn method(&self) -> &str {
        &self.method
    }

    /// The method's name on the command line.
    pub(crate) fn verb_name(&self) -> String {
        line(&self.method.replace('_', "-")).into_owned()
    }

    /// Adds the parameters to the method's command.
    pub(crate) fn command(&self, command: Command) -> Command {
        let argument = |id: String| {
            Arg::new(id).allow_negative_numbers(true).help("JSON, or text when it is not")
        };
        let Some(parameters) = &self.parameters else {
            let any = argument(ARGUMENTS.to_owned()).value_name("JSON").num_args(0..);
            return command.arg(any);
        };
        command.args(parameters.iter().enumerate().map(|(position, parameter)| {
            let argument = argument(position.to_string())
                .value_name(parameter.name.to_uppercase())
                .required(!parameter.is_optional);
            if parameter.is_rest { argument.num_args(0..) } else { argument }
        }))
    }

    /// Calls the method. Detects whether it returns one value, a stream of values or bytes.
    pub(crate) async fn run(&self, context: &Context, matches: &ArgMatches) -> Result<u8> {
        let node = context.node()?;
        let ids = match &self.parameters {
            Some(parameters) => {
                (0..parameters.len()).map(|position| position.to_string()).collect()
            }
            None => vec![ARGUMENTS.to_owned()],
        };
        let words = || ids.iter().filter_map(|id| matches.get_many::<String>(id)).flatten();
        let given = || method::arguments(None, words());
        let error = match node.caller().invoke(&self.method, MethodKind::Unary, given()?).await {
            Ok(reply) => return method::answer(context, None, reply).await,
            Err(error) => error,
        };
        // The method does not exist as a call with one answer, so it did not run: try streams.
        if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unimplemented) {
            return Err(error.into());
        }
        for kind in [MethodKind::Stream, MethodKind::Channel] {
            let reply = node.caller().invoke(&self.method, kind, given()?).await;
            if let Ok(reply) = call::open(reply).await {
                return method::answer(context, None, reply).await;
            }
        }
        Err(error.into())
    }
}

/// The parameters of a form, as `source, target?, words…`; `None` if it is none.
fn parameters(list: &str) -> Option<Vec<Parameter>> {
    let words = list.split(", ").filter(|_| !list.is_empty()).take(MAX_PARAMETERS + 1);
    let parameters: Vec<_> = words.map(Parameter::parse).collect::<Option<_>>()?;
    let is_ordered = parameters
        .windows(2)
        .all(|two| !two[0].is_rest && two[0].is_optional <= two[1].is_optional);
    (is_ordered && parameters.len() <= MAX_PARAMETERS).then_some(parameters)
}

impl Parameter {
    fn parse(text: &str) -> Option<Self> {
        let is_rest = text.ends_with('…');
        let name = text.trim_end_matches(['?', '…']);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        (!name.is_empty() && name.chars().all(is_name)).then(|| Self {
            name: name.to_owned(),
            is_optional: is_rest || text.ends_with('?'),
            is_rest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks how the parser shows the command's arguments, after the method's name.
    #[track_caller]
    fn check(form: &str, expected: &str) {
        let form = Form::parse(form);
        let mut command = form.command(Command::new("j"));
        command.build();
        let usage = command.render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: j").trim();
        assert_eq!(format!("{} {usage}", form.verb_name()), expected);
    }

    #[test]
    fn forms_give_names_and_arguments() {
        check("set_brightness(percent)", "set-brightness <PERCENT>");
        check("blink(times, colour?)", "blink <TIMES> [COLOUR]");
        check("run(name, words…)", "run <NAME> [WORDS]...");
        check("off()", "off ");
        check("off", "off [JSON]...");
    }

    #[test]
    fn other_text_is_a_name() {
        for text in ["a(", "a(b?, c)", "a(b…, c)", "a(--x)", "a(b,c)", "a(b c)", ")", ""] {
            assert_eq!(Form::parse(text), Form { method: text.to_owned(), parameters: None });
        }
        let long = format!("a({})", vec!["b"; MAX_PARAMETERS + 1].join(", "));
        assert_eq!(Form::parse(&long).parameters, None);
    }
}
