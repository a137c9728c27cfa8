//! Replays what was recorded on upstream's controller and router, `recorded.json`, step by step:
//! the test controller has to answer the same. Time is tokio's and paused, so nothing really waits.
#![expect(clippy::unwrap_used, reason = "tests")]

mod compare;
mod world;

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use compare::{Differences, compare};
use world::{Stream, World};

const RECORDED: &str = include_str!("../../recorded.json");
/// How often a waiting client asks for its lease.
const POLL: Duration = Duration::from_millis(20);

#[tokio::test(start_paused = true)]
async fn every_recorded_step_is_answered_the_same() {
    // `@` stands for the prefix that the names of the recording had.
    let recorded: Value = serde_json::from_str(&RECORDED.replace('@', "")).unwrap();
    let steps = recorded["steps"].as_array().unwrap();
    let world = World::start().await;
    let mut streams: HashMap<String, Stream> = HashMap::new();
    let mut differences = Differences::default();
    for (number, step) in steps.iter().enumerate() {
        differences.at(number, step);
        let text = |key: &str| step[key].as_str().unwrap_or_default();
        let seconds = |key: &str| Duration::from_secs_f64(step[key].as_f64().unwrap_or_default());
        let kind = ["section", "world", "call", "open", "read", "cancel", "sleep", "wait lease"];
        let kind = kind.into_iter().find(|kind| !step[*kind].is_null()).unwrap_or("router");
        match kind {
            "section" => {}
            "world" => world.change(text("world")),
            "call" => {
                let begin = Instant::now();
                let answer =
                    world.call(text("call"), text("as"), &step["metadata"], &step["request"]).await;
                compare(&mut differences, &step["answer"], &answer);
                // The real controller's waits are a little shorter than ours: it counts them from
                // the beginning of the call.
                let took = begin.elapsed().abs_diff(seconds("seconds"));
                differences.check(took < Duration::from_secs(2), || format!("took {took:?} more"));
            }
            "open" => {
                let stream = world.open(text("stream"), text("as"), &step["request"]);
                streams.insert(text("open").to_owned(), stream);
            }
            "read" => {
                let stream = streams.get_mut(text("read")).unwrap();
                let quiet = seconds("quiet_seconds");
                let mut events = Vec::new();
                while let Ok(Some(event)) = timeout(quiet, stream.events.recv()).await {
                    events.push(event);
                }
                compare(&mut differences, &step["events"], &Value::Array(events));
            }
            "cancel" => {
                streams.get_mut(text("cancel")).unwrap().cancel();
            }
            "sleep" => sleep(seconds("sleep")).await,
            "wait lease" => {
                let name = json!({"name": format!("namespaces/lab/leases/{}", text("wait lease"))});
                let call = "jumpstarter.client.v1.ClientService/GetLease";
                let begin = Instant::now();
                let answer = loop {
                    let answer = world.call(call, text("as"), &Value::Null, &name).await;
                    let conditions = answer["body"]["conditions"].as_array().cloned();
                    let until = text("until");
                    if conditions.is_some_and(|all| all.iter().any(|c| c["type"] == until)) {
                        break answer;
                    }
                    if begin.elapsed() > seconds("at most") {
                        break json!({"last": answer});
                    }
                    sleep(POLL).await;
                };
                compare(&mut differences, &step["answer"], &answer);
            }
            _ => {
                let name = text("stream");
                match text("router") {
                    "open" => {
                        streams.insert(name.to_owned(), world.open_router(text("token")));
                    }
                    "send" => {
                        let frame = i32::try_from(step["frame"].as_i64().unwrap()).unwrap();
                        let bytes = usize::try_from(step["bytes"].as_u64().unwrap()).unwrap();
                        streams[name].send(frame, bytes).await;
                    }
                    "half-close" => streams.get_mut(name).unwrap().half_close(),
                    other => panic!("an unknown step: {other}"),
                }
                // A call is made before the next one.
                sleep(Duration::from_millis(1)).await;
            }
        }
    }
    differences.assert_none();
}
