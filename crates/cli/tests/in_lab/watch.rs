//! `--watch`: a line for each change.

use jumpstarter_supervise::Signal;
use serde_json::Value;

use crate::bench::Lab;
use crate::lab::{eventually, line, start};
use crate::terminal::code;

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_comes_and_goes_is_two_lines() {
    let lab = Lab::start("").await;
    let (watch, mut lines) = start(lab.command(&["get", "leases", "--watch"], 2)).await;
    let head = line(&mut lines, &watch).await;
    assert!(head.starts_with("NAME  SELECTOR  EXPIRES AT  REMAINING"), "{head}");
    let name = lab.take().await;
    let seen = line(&mut lines, &watch).await;
    assert!(seen.starts_with(&name) && seen.contains("59m") && seen.contains("c1"), "{seen}");
    let (code_of_delete, _, err) = lab.run(&["delete", "leases", &name], 3).await;
    assert_eq!(code_of_delete, Some(0), "{err}");
    let seen = line(&mut lines, &watch).await;
    assert!(seen.starts_with(&name) && seen.contains(" 0s "), "{seen}");
    watch.signal(Signal::INT);
    assert_eq!(code(&watch).await, Some(130), "{}", watch.stderr_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_go_on_after_a_controller_was_away() {
    let lab = Lab::start("").await;
    let words = ["get", "exporters", "--with", "leases,status", "--watch", "-o", "json"];
    let (watch, mut lines) = start(lab.command(&words, 2)).await;
    let first: Value = serde_json::from_str(&line(&mut lines, &watch).await).unwrap();
    assert_eq!((&first["name"], &first["lease"]), (&"e1".into(), &Value::Null));
    lab.controller.controller().down().await;
    let away = "waiting for the controller: ";
    eventually(away, async || watch.stderr_tail().contains(away).then_some(())).await;
    lab.controller.controller().up().await;
    let name = lab.take().await;
    loop {
        let next: Value = serde_json::from_str(&line(&mut lines, &watch).await).unwrap();
        if next["lease"]["name"] == *name {
            break;
        }
        assert_eq!(next["name"], "e1", "only the state has changed: {next}");
    }
    let again = "the controller answers again";
    eventually(again, async || watch.stderr_tail().contains(again).then_some(())).await;
    let said = watch.stderr_tail();
    assert_eq!(said.matches(away).count(), 1, "{said}");
    watch.signal(Signal::TERM);
    assert_eq!(code(&watch).await, Some(143), "{}", watch.stderr_tail());
}
