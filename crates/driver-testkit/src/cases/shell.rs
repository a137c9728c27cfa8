//! Cases of `Shell`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt;
use jumpstarter_driver_core::{ErrorKind, Rest, Result, Shell, ShellOutput, ValueStream};

use crate::case::{MustSucceed, Outcome, ensure};
use crate::instance::Instance;
use crate::leftovers::Snapshot;

/// What a dropped program may take to disappear.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// SHELL-1: each method is listed once, and described only if it is listed.
pub(crate) async fn methods_are_listed_once(instance: &Instance) -> Outcome {
    instance.doing("listing the methods");
    let methods = instance.shell().get_methods().await.must("`get_methods`")?;
    let listed: BTreeSet<_> = methods.iter().collect();
    ensure!(!listed.is_empty(), "it lists no method");
    ensure!(listed.len() == methods.len(), "it lists a method twice: {methods:?}");
    ensure!(methods.iter().all(|method| !method.is_empty()), "a method has no name");
    for (method, _) in instance.driver().methods_description() {
        ensure!(listed.contains(&method), "it describes `{method}`, which it does not list");
    }
    Ok(())
}

/// SHELL-2: a method that does not exist is `InvalidArgument`.
pub(crate) async fn unknown_method_is_refused(instance: &Instance) -> Outcome {
    instance.doing("calling a method that does not exist");
    let shell = instance.shell();
    let outcome = call(&*shell, "no such method".to_owned(), BTreeMap::new()).await;
    refused(outcome, "a method that does not exist").await
}

/// SHELL-3: the output ends with the exit code, which no item before has.
pub(crate) async fn output_ends_with_the_exit_code(instance: &Instance) -> Outcome {
    let shell = instance.shell();
    let method = first_method(&*shell).await?;
    instance.doing(format!("running `{method}`"));
    let output = call(&*shell, method, BTreeMap::new()).await.must("the first method")?;
    whole(output).await
}

/// SHELL-4: variables that choose the programs and libraries that run are `InvalidArgument`.
pub(crate) async fn variables_that_choose_programs_are_refused(instance: &Instance) -> Outcome {
    let shell = instance.shell();
    let method = first_method(&*shell).await?;
    for name in
        ["PATH", "LD_PRELOAD", "LD_AUDIT", "BASH_ENV", "BASH_FUNC_ls%%", "PYTHONPATH", "HOME"]
    {
        instance.doing(format!("running `{method}` with {name}"));
        let env = BTreeMap::from([(name.to_owned(), "x".to_owned())]);
        refused(call(&*shell, method.clone(), env).await, &format!("the variable {name}")).await?;
    }
    Ok(())
}

/// SHELL-5: output that is dropped ends its program, and the method can be called again.
pub(crate) async fn dropped_output_ends_the_program(instance: &Instance) -> Outcome {
    let shell = instance.shell();
    let method = first_method(&*shell).await?;
    let before = Snapshot::take();
    for items in [0, 1] {
        instance.doing(format!("running `{method}`, and dropping it after {items} items"));
        let mut output = call(&*shell, method.clone(), BTreeMap::new()).await.must("a call")?;
        for _ in 0..items {
            // It may say nothing for long.
            tokio::time::timeout(Duration::from_millis(100), output.next()).await.ok();
        }
        drop(output);
        instance.doing(format!("waiting for the end of `{method}`"));
        before.wait_for_return(GONE_WITHIN).await.map_err(|left| left.to_string())?;
    }
    instance.doing(format!("running `{method}` after dropped output"));
    whole(call(&*shell, method, BTreeMap::new()).await.must("a call after dropped output")?).await
}

async fn first_method(shell: &dyn Shell) -> std::result::Result<String, String> {
    let methods = shell.get_methods().await.must("`get_methods`")?;
    methods.into_iter().next().ok_or_else(|| "it lists no method".to_owned())
}

async fn call(
    shell: &dyn Shell,
    method: String,
    env: BTreeMap<String, String>,
) -> Result<ValueStream<ShellOutput>> {
    shell.call_method(method, Some(env), Rest::default()).await
}

/// Over the wire the first item says that a call is refused.
async fn refused(outcome: Result<ValueStream<ShellOutput>>, what: &str) -> Outcome {
    let outcome = match outcome {
        Ok(mut output) => output.next().await.unwrap_or_else(|| Ok(ShellOutput::default())),
        Err(error) => Err(error),
    };
    match outcome {
        Err(error) if error.kind() == ErrorKind::InvalidArgument => Ok(()),
        Err(error) => Err(format!("{what} is {error:?}")),
        Ok(_) => Err(format!("{what} is taken")),
    }
}

async fn whole(mut output: ValueStream<ShellOutput>) -> Outcome {
    let mut ended = false;
    while let Some(item) = output.next().await {
        let item = item.must("an item of the output")?;
        ensure!(!ended, "the output goes on after the exit code: {item:?}");
        ended = item.exit_code.is_some();
    }
    ensure!(ended, "the output ends without an exit code");
    Ok(())
}
