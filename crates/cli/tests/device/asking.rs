//! A device that asks its terminal something, before anybody is there and later, in a real
//! terminal.

use jumpstarter_console::{ConsoleLog, ReadFrom};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{Device, Framing};
use jumpstarter_driver_testkit::skip;

use crate::lab::eventually;
use crate::machine::Tmux;
use crate::served::Served;
use crate::terminal::DEADLINE;

/// A console that shows its whole output to every new client.
struct Shared(ConsoleLog);

impl Driver for Shared {
    interfaces!(Serial);
}

#[async_trait]
impl Serial for Shared {
    async fn connect(&self) -> Result<Channel> {
        Ok(self.0.attach_from(ReadFrom::Start))
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_terminal_answers_what_is_asked_now_and_not_what_was_asked_before() {
    if !Tmux::is_there().await {
        return skip("there is no tmux");
    }
    let (mut device, ours) = Channel::pair(Framing::Bytes);
    let log = ConsoleLog::new(ours);
    // Queries for the cursor, the terminal's kind and its version; tmux answers all of them.
    let past = "\x1b[1mU-Boot\x1b[0m\x1b[6n\x1b[c\x1b[>c\x1b[>q\x1b[5n ready\r\n";
    device.send(past).await.unwrap();
    eventually("all was read", async || (log.total_bytes() == past.len() as u64).then_some(()))
        .await;
    let served = Served::device(Device::of_driver(Shared(log))).await;
    let tmux = Tmux::start(&served.lab, served.lab.path("s").to_str().unwrap()).await;
    tmux.line("j start-console").await;
    tmux.shows("U-Boot ready").await;
    device.send("now\x1b[6n").await.unwrap();
    let answer = tokio::time::timeout(DEADLINE, device.receive())
        .await
        .expect("an answer")
        .unwrap()
        .unwrap();
    let answer = answer.escape_ascii().to_string();
    let place =
        answer.strip_prefix("\\x1b[").and_then(|place| place.strip_suffix('R')).unwrap_or(&answer);
    assert!(place.chars().all(|letter| letter.is_ascii_digit() || letter == ';'), "{answer}");
}
