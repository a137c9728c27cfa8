//! The interface of drivers whose methods their configuration names.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::arguments::Rest;
use crate::call::ValueStream;
use crate::error::Result;
use crate::interface;
use crate::interface::Interfaces;

/// What a program of a [`Shell`] driver writes, in the order in which it arrives, and its end.
///
/// In JSON it is the array `[stdout, stderr, exit_code]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "Row", into = "Row")]
#[schemars(with = "Row")]
pub struct ShellOutput {
    /// The next part of its standard output; may be empty.
    pub stdout: String,
    /// The next part of its standard error; may be empty.
    pub stderr: String,
    /// Its exit code, in the last item only: negative is the number of the signal that killed it.
    pub exit_code: Option<i32>,
}

type Row = (String, String, Option<i32>);

impl From<Row> for ShellOutput {
    fn from((stdout, stderr, exit_code): Row) -> Self {
        Self { stdout, stderr, exit_code }
    }
}

impl From<ShellOutput> for Row {
    fn from(output: ShellOutput) -> Self {
        (output.stdout, output.stderr, output.exit_code)
    }
}

/// Runs the programs that a driver's configuration names: each is a method with any number of
/// arguments.
///
/// The methods are those of one driver, not of the interface:
/// [`get_methods`](Shell::get_methods) lists them, and
/// [`Driver::methods_description`](crate::Driver::methods_description) describes them. Clients show
/// each as a verb.
///
/// Pitfall: a program that fails is no error of the call. Its exit code is in the last item.
#[interface(name = "shell", client = "jumpstarter_driver_shell.client.ShellClient")]
pub trait Shell {
    /// The names of the methods.
    async fn get_methods(&self) -> Result<Vec<String>>;

    /// Runs a method with additional environment variables and with arguments, and streams what it
    /// writes; the last item has the exit code. `InvalidArgument` for a method that does not exist
    /// and for a variable that is not allowed. Dropping the stream ends the program.
    async fn call_method(
        &self,
        method: String,
        env: Option<BTreeMap<String, String>>,
        args: Rest<String>,
    ) -> Result<ValueStream<ShellOutput>>;
}

impl<'a> Interfaces<'a> {
    /// Adds [`Shell`].
    #[must_use]
    pub fn shell(self, shell: &'a (dyn Shell + 'static)) -> Self {
        self.with::<dyn Shell>(shell)
    }
}
