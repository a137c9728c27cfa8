//! Metrics in Prometheus' text format, and the little HTTP server that shows them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jumpstarter_driver_core::{Device, ErrorKind, Gauge, Result, ResultExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

const REQUEST_LIMIT: Duration = Duration::from_secs(5);
const MAX_REQUEST: usize = 8192;
const MAX_CONNECTIONS: usize = 16;

/// What a session counts.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    calls: AtomicU64,
    errors: Mutex<BTreeMap<String, u64>>,
    streams: AtomicI64,
    received: AtomicU64,
    sent: AtomicU64,
}

/// A byte stream that is open.
#[derive(Debug)]
pub(crate) struct OpenStream(Arc<Metrics>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    pub(crate) fn called(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, kind: ErrorKind) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        *errors.entry(format!("{kind:?}")).or_default() += 1;
    }

    pub(crate) fn opened(self: &Arc<Self>) -> OpenStream {
        self.streams.fetch_add(1, Ordering::Relaxed);
        OpenStream(self.clone())
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn text(&self, device: &Device) -> String {
        let mut out = String::new();
        let mut one = |name: &str, kind: &str, help: &str, samples: Samples| {
            let _infallible =
                writeln!(out, "# HELP jumpstarter_{name} {help}\n# TYPE jumpstarter_{name} {kind}");
            for (labels, value) in samples {
                let _infallible = writeln!(out, "jumpstarter_{name}{labels} {value}");
            }
        };
        let plain = |value: String| vec![(String::new(), value)];
        one(
            "calls_total",
            "counter",
            "Calls of drivers.",
            plain(self.calls.load(Ordering::Relaxed).to_string()),
        );
        let errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let errors = errors
            .into_iter()
            .map(|(kind, count)| (format!("{{kind=\"{kind}\"}}"), count.to_string()));
        one("errors_total", "counter", "Calls that failed.", errors.collect());
        let streams = self.streams.load(Ordering::Relaxed).to_string();
        one("open_streams", "gauge", "Byte streams that are open.", plain(streams));
        let received = self.received.load(Ordering::Relaxed).to_string();
        one(
            "received_bytes_total",
            "counter",
            "Bytes from clients on byte streams.",
            plain(received),
        );
        let sent = self.sent.load(Ordering::Relaxed).to_string();
        one("sent_bytes_total", "counter", "Bytes to clients on byte streams.", plain(sent));
        for (name, (help, samples)) in gauges(device) {
            one(name, "gauge", help, samples);
        }
        out
    }
}

/// The samples of one name: their labels in braces, and their values.
type Samples = Vec<(String, String)>;

/// What the drivers tell of themselves, by name.
fn gauges(device: &Device) -> BTreeMap<&'static str, (&'static str, Samples)> {
    let mut families = BTreeMap::<_, (_, Samples)>::new();
    for node in device.nodes() {
        for Gauge { name, help, labels, value } in node.gauges() {
            let path = std::iter::once(("path", node.path().to_owned()));
            let labels =
                path.chain(labels).map(|(name, value)| format!("{name}=\"{}\"", escaped(&value)));
            let labels = format!("{{{}}}", labels.collect::<Vec<_>>().join(","));
            families.entry(name).or_insert((help, Vec::new())).1.push((labels, value.to_string()));
        }
    }
    families
}

/// The value of a label, as the format wants it between quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

/// Where metrics are shown.
#[derive(Debug)]
pub(crate) struct MetricsListener(TcpListener);

impl MetricsListener {
    pub(crate) async fn bind(address: SocketAddr) -> Result<Self> {
        let doing = || format!("listening for metrics at {address}");
        let listener = TcpListener::bind(address).await.with_context(doing)?;
        let bound = listener.local_addr().with_context(doing)?;
        tracing::info!(address = %bound, "metrics are served");
        Ok(Self(listener))
    }

    /// Answers every request with the metrics; never ends by itself.
    pub(crate) async fn serve(self, metrics: Arc<Metrics>, device: Device) {
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(permit) = connections.clone().acquire_owned().await else { return };
            match self.0.accept().await {
                Ok((stream, _)) => {
                    let (metrics, device) = (metrics.clone(), device.clone());
                    tokio::spawn(async move {
                        let _permit = permit;
                        let answer = answer(stream, || metrics.text(&device));
                        let answered = tokio::time::timeout(REQUEST_LIMIT, answer).await;
                        if let Ok(Err(error)) = answered {
                            tracing::debug!(%error, "metrics were not read");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection for metrics could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn answer(mut stream: TcpStream, text: impl FnOnce() -> String) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() > MAX_REQUEST || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let (status, body) =
        match request.starts_with(b"GET /metrics ") || request.starts_with(b"GET / ") {
            true => ("200 OK", text()),
            false => ("404 Not Found", "the metrics are at /metrics\n".to_owned()),
        };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use jumpstarter_driver_core::Driver;

    struct Oven;

    impl Driver for Oven {
        fn gauges(&self) -> Vec<Gauge> {
            let heat = |place: &str, value| {
                Gauge::new("heat_celsius", "How hot.", value).label("place", place)
            };
            vec![heat("to\\p \"1\"\n", 20.5), heat("bottom", 300.0)]
        }
    }

    #[tokio::test]
    async fn metrics_are_read_over_http() {
        let metrics = Arc::new(Metrics::default());
        metrics.called();
        metrics.failed(ErrorKind::NotFound);
        let _open = metrics.opened();
        drop(metrics.opened());
        let listener = MetricsListener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.0.local_addr().unwrap();
        let server = tokio::spawn(listener.serve(metrics, Device::of_driver(Oven)));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        for line in [
            "HTTP/1.1 200 OK",
            "jumpstarter_calls_total 1",
            "jumpstarter_errors_total{kind=\"NotFound\"} 1",
            "jumpstarter_open_streams 1",
            "# TYPE jumpstarter_heat_celsius gauge",
            r#"jumpstarter_heat_celsius{path="",place="to\\p \"1\"\n"} 20.5"#,
            r#"jumpstarter_heat_celsius{path="",place="bottom"} 300"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        server.abort();
    }
}
