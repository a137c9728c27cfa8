//! The exporter is killed while something is under way: an error at once, that says so.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

mod support;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use jumpstarter_client::{Exporter, connect};
use jumpstarter_driver_core::prelude::*;
use support::process::{Process, serve_if_asked};
use support::{DEADLINE, in_time};
use tokio::sync::oneshot;

#[tokio::test]
async fn the_exporter_process() {
    serve_if_asked().await;
}

/// What the failure says, without where the exporter was.
fn told(process: &Process, error: &Error) -> String {
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    error.report().replace(&process.address, "ADDRESS")
}

async fn on_both() -> [Process; 2] {
    [Process::on_a_unix_socket().await, Process::on_tcp().await]
}

/// Waits until the exporter has received everything that was sent before.
async fn settle(exporter: &Exporter) {
    in_time(exporter.status()).await.unwrap();
}

#[tokio::test]
async fn in_a_call() {
    for process in on_both().await {
        let exporter = process.connect().await;
        let power = exporter.device().get::<dyn Power>("").unwrap();
        let call = tokio::spawn(async move { power.on().await });
        tokio::task::yield_now().await;
        settle(&exporter).await;
        process.kill().await;
        let error = in_time(call).await.unwrap().unwrap_err();
        insta::allow_duplicates!(insta::assert_snapshot!(told(&process, &error), @r"
        calling `on`: the exporter at ADDRESS went away
        hint: connect again when it is back: it has ended, or the network to it failed
        "));
        let lost = in_time(exporter.lost()).await;
        insta::allow_duplicates!(insta::assert_snapshot!(told(&process, &lost), @r"
        the exporter at ADDRESS went away
        hint: connect again when it is back: it has ended, or the network to it failed
        "));
        let next = in_time(exporter.device().call("", "off", vec![])).await.unwrap_err();
        insta::allow_duplicates!(insta::assert_snapshot!(told(&process, &next), @r"
        calling `off`: the exporter at ADDRESS went away
        hint: connect again when it is back: it has ended, or the network to it failed
        "));
    }
}

#[tokio::test]
async fn in_a_stream_of_values_and_in_its_log() {
    for process in on_both().await {
        let exporter = process.connect().await;
        let power = exporter.device().get::<dyn Power>("").unwrap();
        let mut readings = in_time(power.read()).await.unwrap();
        in_time(readings.next()).await.unwrap().unwrap();
        let logs = in_time(exporter.logs()).await.unwrap();
        process.kill().await;
        let error = in_time(readings.next()).await.unwrap().unwrap_err();
        insta::allow_duplicates!(insta::assert_snapshot!(told(&process, &error), @r"
        calling `read`: the exporter at ADDRESS went away
        hint: connect again when it is back: it has ended, or the network to it failed
        "));
        assert!(in_time(readings.next()).await.is_none());
        let error = in_time(logs.collect::<Vec<_>>()).await.pop().unwrap().unwrap_err();
        insta::allow_duplicates!(insta::assert_snapshot!(told(&process, &error), @r"
        following the exporter's log: the exporter at ADDRESS went away
        hint: connect again when it is back: it has ended, or the network to it failed
        "));
    }
}

#[tokio::test]
async fn in_a_channel() {
    for process in on_both().await {
        let exporter = process.connect().await;
        let network = exporter.device().get::<dyn Network>("").unwrap();
        let mut channel = in_time(network.connect()).await.unwrap();
        in_time(channel.receive()).await.unwrap().unwrap();
        process.kill().await;
        let error = loop {
            match in_time(channel.receive()).await {
                Ok(data) => assert!(data.is_some(), "it did not end well"),
                Err(error) => break error,
            }
        };
        insta::allow_duplicates!(insta::assert_snapshot!(told(&process, &error), @r"
        receiving from the connection: the exporter at ADDRESS went away
        hint: connect again when it is back: it has ended, or the network to it failed
        "));
    }
}

/// An image that says when its second piece is asked for, and never has it.
fn endless_image() -> (ImageSource, oneshot::Receiver<()>) {
    let (asked, is_asked) = oneshot::channel();
    let first = futures_util::stream::iter([Ok(bytes::Bytes::from_static(b"half of the im"))]);
    let mut asked = Some(asked);
    let rest = futures_util::stream::poll_fn(move |_| {
        if let Some(asked) = asked.take() {
            asked.send(()).ok();
        }
        Poll::<Option<io::Result<bytes::Bytes>>>::Pending
    });
    (ImageSource::stream(first.chain(rest), None).with_name("os.img"), is_asked)
}

#[tokio::test]
async fn in_a_flash() {
    for process in on_both().await {
        let exporter = process.connect().await;
        let flasher = exporter.device().get::<dyn Flasher>("").unwrap();
        let (image, is_asked) = endless_image();
        let call =
            tokio::spawn(
                async move { flasher.flash(image, Some("hangs in the middle".into())).await },
            );
        in_time(is_asked).await.unwrap();
        settle(&exporter).await;
        process.kill().await;
        let error = in_time(call).await.unwrap().unwrap_err();
        insta::allow_duplicates!(insta::assert_snapshot!(told(&process, &error), @r"
        calling `flash`: the exporter at ADDRESS went away
        hint: connect again when it is back: it has ended, or the network to it failed
        "));
    }
}

/// A writer that says when something arrives.
struct Telling(Option<oneshot::Sender<()>>);

impl tokio::io::AsyncWrite for Telling {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(arrived) = self.0.take() {
            arrived.send(()).ok();
        }
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn in_a_dump() {
    for process in on_both().await {
        let exporter = process.connect().await;
        let flasher = exporter.device().get::<dyn Flasher>("").unwrap();
        let (arrived, has_arrived) = oneshot::channel();
        let sink = ImageSink::writer(Telling(Some(arrived)));
        let call =
            tokio::spawn(
                async move { flasher.dump(sink, Some("hangs in the middle".into())).await },
            );
        in_time(has_arrived).await.unwrap();
        process.kill().await;
        let error = in_time(call).await.unwrap().unwrap_err();
        insta::allow_duplicates!(insta::assert_snapshot!(told(&process, &error), @r"
        calling `dump`: the exporter at ADDRESS went away
        hint: connect again when it is back: it has ended, or the network to it failed
        "));
    }
}

#[tokio::test]
async fn an_exporter_that_only_hangs_is_found_out_too() {
    for process in on_both().await {
        // Longer than a busy machine lets it wait.
        let options = process.options().keepalive(Duration::from_secs(3));
        let exporter = in_time(connect(&options)).await.unwrap();
        let power = exporter.device().get::<dyn Power>("").unwrap();
        let call = tokio::spawn(async move { power.on().await });
        settle(&exporter).await;
        process.freeze();
        let started = Instant::now();
        let error = in_time(call).await.unwrap().unwrap_err();
        assert!(started.elapsed() < DEADLINE);
        insta::allow_duplicates! {
            insta::assert_snapshot!(told(&process, &error), @r"
            calling `on`: the exporter at ADDRESS went away: it gave no sign of life for 6s
            hint: connect again when it is back: its machine, or the network to it, failed
            ");
        }
    }
}
