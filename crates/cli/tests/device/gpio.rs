//! Verbs of GPIO lines. The test brings the lines; those of a real chip are tried in a guest.

use std::sync::Arc;

use insta::assert_snapshot;
use jumpstarter_driver_core::Device;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_gpiod::{GpioEdge, GpioEdges, GpioPin, PinState};
use tokio::sync::watch;

use crate::lab::eventually;
use crate::served::Served;

type Line = watch::Sender<bool>;

fn state(line: &Line) -> PinState {
    if *line.borrow() { PinState::Active } else { PinState::Inactive }
}

/// Drives the line.
struct Output(Line);

#[async_trait]
impl Driver for Output {
    interfaces!(Power, GpioPin);

    fn client(&self) -> Option<&str> {
        Some("jumpstarter_driver_gpiod.client.DigitalOutputClient")
    }
}

#[async_trait]
impl Power for Output {
    async fn on(&self) -> Result<()> {
        self.0.send_replace(true);
        Ok(())
    }
    async fn off(&self) -> Result<()> {
        self.0.send_replace(false);
        Ok(())
    }
}

#[async_trait]
impl GpioPin for Output {
    async fn read_pin(&self) -> Result<PinState> {
        Ok(state(&self.0))
    }
}

/// Sees the line.
struct Input(Line);

impl Input {
    async fn wait(&self, wanted: bool, timeout: Option<Span>) -> Result<()> {
        let mut line = self.0.subscribe();
        let waiting = line.wait_for(|is_active| *is_active == wanted);
        let limit = timeout.map_or(std::time::Duration::MAX, |limit| limit.as_duration());
        match tokio::time::timeout(limit, waiting).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::deadline_exceeded("the line did not change")),
        }
    }
}

impl Driver for Input {
    interfaces!(GpioPin, GpioEdges);
}

#[async_trait]
impl GpioPin for Input {
    async fn read_pin(&self) -> Result<PinState> {
        Ok(state(&self.0))
    }
}

#[async_trait]
impl GpioEdges for Input {
    async fn wait_for_active(&self, timeout: Option<Span>) -> Result<()> {
        self.wait(true, timeout).await
    }
    async fn wait_for_edge(&self, edge_type: GpioEdge, timeout: Option<Span>) -> Result<()> {
        self.wait(edge_type == GpioEdge::Rising, timeout).await
    }
    async fn wait_for_inactive(&self, timeout: Option<Span>) -> Result<()> {
        self.wait(false, timeout).await
    }
}

/// Two ends of one line.
struct Wire(Line);

impl Driver for Wire {
    fn children(&self) -> Vec<Child> {
        let line = self.0.clone();
        vec![
            Child::new("out", Arc::new(Output(line.clone()))),
            Child::new("in", Arc::new(Input(line))),
        ]
    }
}

async fn served() -> (Served, Line) {
    let line = Line::default();
    (Served::device(Device::of_driver(Wire(line.clone()))).await, line)
}

#[tokio::test]
async fn a_line_is_driven_and_read() {
    let (served, _line) = served().await;
    for (verb, seen) in [("on", "active"), ("off", "inactive")] {
        assert_eq!(served.j(&["out", verb]).await, "");
        for path in ["out", "in"] {
            assert_eq!(served.j(&[path, "read"]).await, format!("{seen}\n"));
            assert_eq!(served.j(&[path, "read-pin"]).await, format!("{seen}\n"));
            let json = served.j(&[path, "read", "--output", "json"]).await;
            assert_eq!(json, format!("\"{seen}\"\n"));
        }
    }
}

#[tokio::test]
async fn an_input_is_waited_for() {
    let (served, line) = served().await;
    assert_eq!(served.j(&["in", "wait-for-inactive"]).await, "");
    for (words, becomes) in [
        (&["in", "wait-for-active"][..], true),
        (&["in", "wait-for-edge", "falling"], false),
        (&["in", "wait-for-edge", "rising", "--timeout", "1min"], true),
        (&["in", "wait-for-inactive", "--timeout", "60"], false),
    ] {
        let change = async {
            let waits = async || (line.receiver_count() > 0).then_some(());
            eventually("the driver waits", waits).await;
            line.send_replace(becomes);
        };
        let (said, ()) = tokio::join!(served.j(words), change);
        assert_eq!(said, "", "{words:?}");
    }
}

#[tokio::test]
async fn a_wait_ends_with_its_limit_and_names_its_edges() {
    let (served, _line) = served().await;
    assert_snapshot!(served.j(&["in", "wait-for-active", "--timeout", "50ms"]).await, @r"
    --- stderr
    error: the line did not change
    --- exit code 1
    ");
    assert_snapshot!(served.j(&["in", "wait-for-edge", "up"]).await, @r"
    --- stderr
    error: invalid value 'up' for '<EDGE>'
      [possible values: rising, falling]

    For more information, try '--help'.
    --- exit code 2
    ");
}
