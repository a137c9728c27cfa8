//! Cases of every driver.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{join_all, poll_fn};
use jumpstarter_driver_core::{
    Argument, Arguments, ErrorKind, ImageSink, ImageSource, InterfaceDescriptor, JsonType,
    MethodKind, ParameterDescriptor, ParameterKind, Reply, Result, ValueType,
};
use serde_json::{Value, json};

use crate::case::{MustSucceed, Outcome, ensure};
use crate::cases;
use crate::instance::{Instance, Method};
use crate::leftovers::Snapshot;

/// How long the resources of a dropped channel may take to be released.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);

/// GENERIC-1: the driver offers the interfaces that its author lists, and the registry knows the
/// same ones.
pub(crate) async fn interfaces_are_as_listed(instance: &Instance) -> Outcome {
    let names = |list: &[&'static InterfaceDescriptor]| {
        list.iter().map(|one| one.name).collect::<BTreeSet<_>>()
    };
    let listed = names(&instance.listed);
    let offered: Vec<_> = instance.driver().interfaces().descriptors().collect();
    ensure!(
        names(&offered) == listed,
        "the test lists {listed:?}, the driver offers {:?}",
        names(&offered)
    );
    let registered = names(instance.registered.as_ref()?);
    ensure!(registered == listed, "the test lists {listed:?}, the registry {registered:?}");
    Ok(())
}

/// GENERIC-2: an opened and closed driver leaves no process, open file, socket or temporary file.
pub(crate) async fn closing_releases_everything(_: &Instance) -> Outcome {
    Ok(()) // The runner closes and checks, as after every case.
}

/// GENERIC-3: a driver that is dropped without being closed leaves nothing either.
pub(crate) async fn dropping_releases_everything(instance: &Instance) -> Outcome {
    instance.leave_unclosed(); // The runner drops and checks.
    Ok(())
}

/// GENERIC-4: closing again succeeds; so does closing from many tasks at once.
pub(crate) async fn close_is_idempotent(instance: &Instance) -> Outcome {
    instance.doing("closing from four tasks at once");
    for outcome in join_all((0..4).map(|_| instance.close())).await {
        outcome.must("one of four closes at once")?;
    }
    instance.doing("closing again");
    instance.close().await.must("closing again")
}

/// GENERIC-5: a reset succeeds, again and again.
pub(crate) async fn reset_is_idempotent(instance: &Instance) -> Outcome {
    instance.doing("resetting");
    instance.driver().reset().await.must("the first reset")?;
    instance.driver().reset().await.must("the second reset")
}

/// GENERIC-6: a method that does not exist is `NotFound`, and the error lists those that do.
pub(crate) async fn unknown_method_is_not_found(instance: &Instance) -> Outcome {
    let method = "no_such_method";
    for adapter in instance.adapters() {
        let outcome = instance.call(adapter, method, MethodKind::Unary, Arguments::new()).await;
        let Err(error) = outcome else { return Err("an unknown method succeeded".to_owned()) };
        ensure!(error.kind() == ErrorKind::NotFound, "an unknown method is {error:?}");
        let report = error.report();
        let listed = |adapter: &std::sync::Arc<dyn crate::instance::Adapter>| {
            adapter.descriptor().methods.iter().all(|method| report.contains(method.name))
        };
        ensure!(instance.adapters().iter().any(listed), "it does not list the methods: {report}");
    }
    Ok(())
}

/// GENERIC-7: an argument too many is `InvalidArgument`.
pub(crate) async fn surplus_argument_is_refused(instance: &Instance) -> Outcome {
    for method in instance.methods().into_iter().filter(|method| !method.descriptor.is_variadic()) {
        let mut arguments = plausible(instance, &method);
        arguments.push(Argument::Value(json!("surplus")));
        refused(instance, &method, arguments, "an argument too many").await?;
    }
    Ok(())
}

/// GENERIC-8: an argument of the wrong type is `InvalidArgument`.
pub(crate) async fn argument_of_wrong_type_is_refused(instance: &Instance) -> Outcome {
    for method in instance.methods() {
        for (position, parameter) in method.descriptor.parameters.iter().enumerate() {
            // A parameter that accepts any value has no wrong type.
            if parameter.value.is_some_and(|value| value.json_types().len() == JsonType::ALL.len())
            {
                continue;
            }
            let mut arguments = plausible(instance, &method);
            arguments.truncate(position);
            arguments.push(Argument::Value(json!([[["wrong"]]])));
            refused(instance, &method, arguments, &format!("a wrong `{}`", parameter.name)).await?;
        }
    }
    Ok(())
}

/// GENERIC-9: after a close every call ends, with whatever outcome, and what it opened is released
/// by another close.
pub(crate) async fn calls_after_close_end(instance: &Instance) -> Outcome {
    instance.close().await.must("closing")?;
    for method in instance.methods() {
        instance.doing(format!("calling `{}` after a close", method.descriptor.name));
        drop(call(instance, &method, plausible(instance, &method)).await);
    }
    instance.doing("resetting after a close");
    drop(instance.driver().reset().await);
    Ok(())
}

/// GENERIC-10: calls from many tasks at once all end, and the driver can be reset afterwards.
pub(crate) async fn concurrent_calls_end(instance: &Instance) -> Outcome {
    let methods: Vec<Method> =
        instance.methods().into_iter().filter(|method| is_callable(instance, method)).collect();
    instance.doing("calling every method from eight tasks at once");
    let tasks: Vec<_> = (0..8)
        .flat_map(|_| {
            methods
                .iter()
                .map(|method| tokio::spawn(call(instance, method, plausible(instance, method))))
        })
        .collect();
    for task in tasks {
        task.await.map_err(|error| format!("a concurrent call panicked: {error}"))?.ok();
    }
    instance.doing("resetting after concurrent calls");
    instance.driver().reset().await.must("a reset after concurrent calls")
}

/// GENERIC-11: a call that is dropped half-way leaves the driver usable: the same call ends as it
/// did before.
pub(crate) async fn cancelled_call_leaves_it_usable(instance: &Instance) -> Outcome {
    for method in instance.methods().into_iter().filter(|method| is_callable(instance, method)) {
        let name = method.descriptor.name;
        instance.doing(format!("calling `{name}`"));
        // The second call is the reference: some methods differ the first time.
        drop(call(instance, &method, plausible(instance, &method)).await);
        let before = ending(&call(instance, &method, plausible(instance, &method)).await);
        for polls in [1, 2, 5] {
            let mut cancelled = call(instance, &method, plausible(instance, &method));
            for _ in 0..polls {
                let ended =
                    poll_fn(|context| Poll::Ready(cancelled.as_mut().poll(context).is_ready()))
                        .await;
                if ended {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(cancelled);
            instance.doing(format!("calling `{name}` after a dropped call"));
            let mut after = ending(&call(instance, &method, plausible(instance, &method)).await);
            // An exclusive port may be released a moment later.
            for _ in 0..100 {
                if after == before {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                after = ending(&call(instance, &method, plausible(instance, &method)).await);
            }
            ensure!(
                after == before,
                "`{name}` ended with {before}, and with {after} after a dropped call"
            );
        }
    }
    Ok(())
}

/// GENERIC-12: the children that the driver makes are among those that its configuration names, if
/// it names them, and have the interfaces that it says.
pub(crate) async fn children_are_named_before_they_exist(instance: &Instance) -> Outcome {
    let Some(named) = &instance.named_children else { return Ok(()) };
    for child in instance.driver().children() {
        let names: Vec<&str> = named.iter().map(|planned| planned.name.as_str()).collect();
        let Some(planned) = named.iter().find(|planned| planned.name == child.name) else {
            return Err(format!(
                "it made the child `{}`; its configuration's `children` names {names:?}",
                child.name
            ));
        };
        let has: Vec<&str> = child.driver.interfaces().descriptors().map(|one| one.name).collect();
        let said: Vec<&str> = planned.interfaces.iter().map(|one| one.name).collect();
        ensure!(
            has == said,
            "the child `{}` has the interfaces {has:?}; its configuration's `children` says {said:?}",
            child.name
        );
    }
    Ok(())
}

/// GENERIC-13: no two interfaces have a method of the same name, since clients name the driver and
/// the method only.
pub(crate) async fn methods_have_different_names(instance: &Instance) -> Outcome {
    let mut first_with = BTreeMap::new();
    for interface in instance.driver().interfaces().descriptors() {
        for method in interface.methods {
            if let Some(earlier) = first_with.insert(method.name, interface.name) {
                let (name, later) = (method.name, interface.name);
                return Err(format!("the interfaces `{earlier}` and `{later}` both have `{name}`"));
            }
        }
    }
    Ok(())
}

/// GENERIC-14: a stream of an interface of one's own can be dropped at any moment, and opened
/// again.
pub(crate) async fn dropped_stream_can_be_repeated(instance: &Instance) -> Outcome {
    for method in own(instance, MethodKind::Stream) {
        let name = method.descriptor.name;
        for items in [0, 1, 2] {
            instance.doing(format!("opening the stream `{name}`, after {items} dropped ones"));
            let reply = again(instance, &method).await?;
            let mut stream = reply.into_stream::<Value>().must(&format!("the stream `{name}`"))?;
            for _ in 0..items {
                // It may stay silent for long.
                tokio::time::timeout(Duration::from_millis(100), stream.next()).await.ok();
            }
        }
    }
    Ok(())
}

/// GENERIC-15: a channel of an interface of one's own can be dropped at any moment; it is closed
/// then, and another can be opened.
pub(crate) async fn dropped_channel_is_closed(instance: &Instance) -> Outcome {
    for method in own(instance, MethodKind::Channel) {
        let name = method.descriptor.name;
        instance.doing(format!("opening the channel `{name}`"));
        // Resources that are opened once for all channels are open from here on.
        drop(again(instance, &method).await?);
        instance.doing(format!("waiting until dropped channels of `{name}` are closed"));
        tokio::task::yield_now().await;
        let before = Snapshot::take();
        for _ in 0..3 {
            drop(again(instance, &method).await?);
        }
        before.wait_for_return(CLOSED_WITHIN).await.map_err(|left| left.to_string())?;
    }
    Ok(())
}

/// The methods of that kind that the suite can call, of interfaces without specific cases.
fn own(instance: &Instance, kind: MethodKind) -> impl Iterator<Item = Method> {
    let methods = instance.methods().into_iter().filter(move |method| {
        let interface = method.adapter.descriptor().name;
        method.descriptor.kind == kind
            && !cases::OF_CORE.contains(&interface)
            && is_callable(instance, method)
    });
    methods.collect::<Vec<_>>().into_iter()
}

/// Calls a method that must succeed, at the latest a moment after its earlier result was dropped.
async fn again(instance: &Instance, method: &Method) -> std::result::Result<Reply, String> {
    let mut outcome = call(instance, method, plausible(instance, method)).await;
    for _ in 0..100 {
        if outcome.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        outcome = call(instance, method, plausible(instance, method)).await;
    }
    outcome.must(&format!("`{}`", method.descriptor.name))
}

fn ending(outcome: &Result<Reply>) -> String {
    match outcome {
        Ok(_) => "success".to_owned(),
        Err(error) => format!("{:?}", error.kind()),
    }
}

/// The arguments that the driver's author lists for the method, without images.
fn given<'a>(instance: &'a Instance, method: &Method) -> Option<&'a [Value]> {
    let mut all = instance.options.given.iter();
    all.find(|(name, _)| *name == method.descriptor.name).map(|(_, arguments)| &**arguments)
}

/// Whether the suite can call it: it knows the meaning of the arguments, or the author lists them.
fn is_callable(instance: &Instance, method: &Method) -> bool {
    given(instance, method).is_some()
        || method
            .descriptor
            .parameters
            .iter()
            .all(|parameter| parameter.optional || is_flag(parameter))
}

fn is_flag(parameter: &ParameterDescriptor) -> bool {
    parameter.value.is_some_and(|value| value.json_types() == [JsonType::Boolean].into())
}

fn call(
    instance: &Instance,
    method: &Method,
    arguments: Vec<Argument>,
) -> futures_util::future::BoxFuture<'static, Result<Reply>> {
    let descriptor = method.descriptor;
    instance.call(
        &method.adapter,
        descriptor.name,
        descriptor.kind,
        arguments.into_iter().collect(),
    )
}

async fn refused(
    instance: &Instance,
    method: &Method,
    arguments: Vec<Argument>,
    what: &str,
) -> Outcome {
    let name = method.descriptor.name;
    instance.doing(format!("calling `{name}` with {what}"));
    match call(instance, method, arguments).await {
        Err(error) if error.kind() == ErrorKind::InvalidArgument => Ok(()),
        Err(error) => Err(format!("`{name}` with {what} is {error:?}")),
        Ok(_) => Err(format!("`{name}` with {what} succeeded")),
    }
}

/// The listed arguments, else plausible ones of the right types.
fn plausible(instance: &Instance, method: &Method) -> Vec<Argument> {
    let mut given = given(instance, method).unwrap_or_default().iter();
    let argument = |parameter: &ParameterDescriptor| match (parameter.kind, given.as_slice()) {
        (ParameterKind::Value, [_, ..]) => {
            Argument::Value(given.next().cloned().unwrap_or_default())
        }
        _ => plausible_argument(parameter),
    };
    let parameters = method.descriptor.parameters.iter();
    let mut arguments: Vec<Argument> = parameters
        .filter(|parameter| parameter.kind != ParameterKind::Rest)
        .map(argument)
        .collect();
    arguments.extend(given.cloned().map(Argument::Value));
    arguments
}

fn plausible_argument(parameter: &ParameterDescriptor) -> Argument {
    match parameter.kind {
        ParameterKind::Source => Argument::Source(ImageSource::bytes("conformance")),
        ParameterKind::Sink => Argument::Sink(ImageSink::writer(tokio::io::sink())),
        _ if parameter.optional => Argument::Value(Value::Null),
        _ => Argument::Value(parameter.value.map_or(Value::Null, |value| plausible_value(&value))),
    }
}

fn plausible_value(value: &ValueType) -> Value {
    if let Some(first) = value.choices().and_then(|choices| choices.into_iter().next()) {
        return first;
    }
    let types = value.json_types();
    let of_type = [
        (JsonType::Boolean, json!(false)),
        (JsonType::Text, json!("conformance")),
        (JsonType::Number, json!(1.0)),
        (JsonType::Integer, json!(1)),
        (JsonType::Array, json!([])),
    ];
    let fitting = of_type.into_iter().find(|(one, _)| types.contains(one));
    fitting.map_or(Value::Null, |(_, value)| value)
}
