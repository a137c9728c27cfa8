//! What is said to a driver, or to the whole device: its name, its arguments, and what it does.

use std::fmt;

use clap::ArgMatches;
use futures_util::future::BoxFuture;

use super::context::Context;
use crate::fault::Result;

/// The arguments of something that is said to a driver: `on`, `flash`, `forward-tcp`.
///
/// Its documentation is the help. A type without one, whose name is that of a method of the
/// interface, has the method's documentation. Examples say `{path}` for what is said before the
/// verb (`j qemu power`).
pub(crate) trait Say: clap::Args + Send + Sync + 'static {
    /// Its name on the command line.
    const NAME: &'static str;

    /// Does it and returns the exit code. Ctrl-C drops the future, unless it awaits
    /// [`Context::interrupted`].
    fn run(self, context: &Context) -> impl Future<Output = Result<u8>> + Send;
}

/// A type of arguments as a value, for tables.
pub(crate) struct Verb {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// Adds its arguments and its help.
    pub(crate) command: fn(clap::Command) -> clap::Command,
    /// Does it with what was parsed, and returns the exit code.
    pub(crate) run: for<'a> fn(&'a Context, &'a ArgMatches) -> BoxFuture<'a, Result<u8>>,
}

impl Verb {
    /// The verb with these arguments.
    pub(crate) const fn of<T: Say>() -> Self {
        Self {
            name: T::NAME,
            command: T::augment_args,
            run: |context, matches| {
                Box::pin(async move { T::from_arg_matches(matches)?.run(context).await })
            },
        }
    }

    /// Its command, without the documentation of a method.
    pub(crate) fn plain_command(&self) -> clap::Command {
        (self.command)(clap::Command::new(self.name))
    }
}

impl fmt::Debug for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Verb").field(&self.name).finish()
    }
}
