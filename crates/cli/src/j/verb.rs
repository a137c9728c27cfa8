//! The actions of a driver, or of the whole device: name, arguments and effect.

use std::fmt;

use clap::ArgMatches;
use futures_util::future::BoxFuture;

use super::context::Context;
use crate::fault::Result;

/// The arguments of an action: `on`, `flash`, `forward-tcp`.
///
/// The type's documentation is the help. A type without one, whose name is that of a method of the
/// interface, has the method's documentation. Examples say `{path}` for the words before the verb
/// (`j qemu power`).
pub(crate) trait Say: clap::Args + Send + Sync + 'static {
    /// The verb's name on the command line.
    const NAME: &'static str;

    /// Runs the verb and returns the exit code. Ctrl-C drops the future, unless it awaits
    /// [`Context::interrupted`].
    fn run(self, context: &Context) -> impl Future<Output = Result<u8>> + Send;
}

/// A type of arguments as a value, for tables.
pub(crate) struct Verb {
    /// The verb's name on the command line.
    pub(crate) name: &'static str,
    /// Adds the verb's arguments and help.
    pub(crate) command: fn(clap::Command) -> clap::Command,
    /// Runs the verb with the parsed arguments, and returns the exit code.
    pub(crate) run: for<'a> fn(&'a Context, &'a ArgMatches) -> BoxFuture<'a, Result<u8>>,
}

impl Verb {
    /// Makes a verb of the arguments' type.
    pub(crate) const fn of<T: Say>() -> Self {
        Self {
            name: T::NAME,
            command: T::augment_args,
            run: |context, matches| {
                Box::pin(async move { T::from_arg_matches(matches)?.run(context).await })
            },
        }
    }

    /// The verb's command, without the documentation of a method.
    pub(crate) fn plain_command(&self) -> clap::Command {
        (self.command)(clap::Command::new(self.name))
    }
}

impl fmt::Debug for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Verb").field(&self.name).finish()
    }
}
