//! Metrics in Prometheus' text format, over HTTP.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::ready;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jumpstarter_driver_core::{Device, Gauge, Result, ResultExt};
use jumpstarter_exporter::Session;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::join::{Counted, Counts};

/// The longest time for a request and its answer.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// The largest request, in bytes.
const MAX_REQUEST: usize = 8192;
/// The most connections at a time; more wait.
const MAX_CONNECTIONS: usize = 16;
/// The pause after a failure to accept a connection.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// What the metrics are about. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed(Arc<Mutex<(Option<Session>, Option<Counted>)>>);

impl Observed {
    /// An exporter that joins a controller, with what it counts.
    pub(crate) fn of_joined(counted: Counted) -> Self {
        Self(Arc::new(Mutex::new((None, Some(counted)))))
    }

    /// Sets the session that is served now, or that there is none.
    pub(crate) fn set_session(&self, session: Option<&Session>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 = session.cloned();
    }

    fn text(&self) -> String {
        let (session, counted) = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut out = String::new();
        if let Some(session) = session {
            of_session(&mut out, &session);
        }
        if let Some(counted) = counted {
            of_controller(&mut out, &counted.get());
        }
        out
    }
}

/// Appends one metric.
fn one(out: &mut String, name: &str, kind: &str, help: &str, samples: Samples) {
    let _infallible =
        writeln!(out, "# HELP jumpstarter_{name} {help}\n# TYPE jumpstarter_{name} {kind}");
    for (labels, value) in samples {
        let _infallible = writeln!(out, "jumpstarter_{name}{labels} {value}");
    }
}

fn plain(value: u64) -> Samples {
    vec![(String::new(), value.to_string())]
}

/// The metrics of a session and of its drivers.
fn of_session(out: &mut String, session: &Session) {
    let counts = session.counts();
    let mut one = |name: &str, kind: &str, help: &str, samples: Samples| {
        one(out, name, kind, help, samples);
    };
    one("calls_total", "counter", "Calls of drivers.", plain(counts.calls));
    let errors = counts.errors.into_iter();
    let errors = errors.map(|(kind, count)| (format!("{{kind=\"{kind}\"}}"), count.to_string()));
    one("errors_total", "counter", "Calls that failed.", errors.collect());
    one("open_streams", "gauge", "Byte streams that are open.", plain(counts.open_streams));
    let help = "Bytes from clients on byte streams.";
    one("received_bytes_total", "counter", help, plain(counts.received_bytes));
    let help = "Bytes to clients on byte streams.";
    one("sent_bytes_total", "counter", help, plain(counts.sent_bytes));
    for (name, (help, samples)) in gauges(session.device()) {
        one(name, "gauge", help, samples);
    }
}

/// The metrics of an exporter that joins a controller.
fn of_controller(out: &mut String, counts: &Counts) {
    let mut one = |name: &str, kind: &str, help: &str, samples: Samples| {
        one(out, name, kind, help, samples);
    };
    let connected = plain(u64::from(counts.is_connected));
    one("controller_connected", "gauge", "Whether the controller answers.", connected);
    let help = "How often the controller has begun to answer.";
    one("controller_connections_total", "counter", help, plain(counts.connections));
    one("leases_total", "counter", "Leases so far.", plain(counts.leases));
    let lease = counts.lease.iter().map(|(lease, client)| {
        (format!("{{lease=\"{}\",client=\"{}\"}}", escaped(lease), escaped(client)), "1".to_owned())
    });
    one("lease", "gauge", "The lease that is served.", lease.collect());
    one("open_tunnels", "gauge", "Tunnels that are open.", plain(counts.open_tunnels));
    one("tunnels_total", "counter", "Tunnels so far.", plain(counts.tunnels));
    let help = "Tunnels that were closed because they had no call.";
    one("silent_tunnels_total", "counter", help, plain(counts.silent_tunnels));
    let help = "Tunnels that could not be opened.";
    one("failed_tunnels_total", "counter", help, plain(counts.failed_tunnels));
    let help = "States that the controller has received.";
    one("status_reports_total", "counter", help, plain(counts.reports));
    let help = "States that could not be reported, and were tried again.";
    one("failed_status_reports_total", "counter", help, plain(counts.failed_reports));
}

/// The samples of one name: their labels in braces, and their values.
type Samples = Vec<(String, String)>;

/// The drivers' gauges, by name.
fn gauges(device: &Device) -> BTreeMap<&'static str, (&'static str, Samples)> {
    let mut families = BTreeMap::<_, (_, Samples)>::new();
    for node in device.nodes() {
        for Gauge { name, help, labels, value, .. } in node.gauges() {
            let path = std::iter::once(("path", node.path().to_owned()));
            let labels =
                path.chain(labels).map(|(name, value)| format!("{name}=\"{}\"", escaped(&value)));
            let labels = format!("{{{}}}", labels.collect::<Vec<_>>().join(","));
            families.entry(name).or_insert((help, Vec::new())).1.push((labels, value.to_string()));
        }
    }
    families
}

/// A label's value, escaped for the quotes of the format.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

/// The listener for metrics.
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

    /// Answers every request with the metrics until the returned handle is dropped.
    pub(crate) fn serve(self, observed: Observed) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(tokio::spawn(self.accept(observed)))
    }

    async fn accept(self, observed: Observed) {
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            if connections.len() >= MAX_CONNECTIONS {
                connections.join_next().await;
            }
            match self.0.accept().await {
                Ok((stream, _)) => drop(connections.spawn(answer(stream, observed.clone()))),
                Err(error) => {
                    tracing::warn!(%error, "a connection for metrics could not be accepted");
                    tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
        }
    }
}

/// Answers the one request of a connection.
async fn answer(stream: TcpStream, observed: Observed) {
    let service = service_fn(|request| ready(respond(&request, &observed)));
    let answered = http1::Builder::new()
        .keep_alive(false)
        // A client may end its direction after its request.
        .half_close(true)
        .auto_date_header(false)
        .max_buf_size(MAX_REQUEST)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = tokio::time::timeout(REQUEST_LIMIT, answered).await {
        tracing::debug!(%error, "metrics were not read");
    }
}

fn respond<B>(request: &Request<B>, observed: &Observed) -> http::Result<Response<String>> {
    let response = Response::builder().header(CONTENT_TYPE, "text/plain; version=0.0.4");
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics" | "/") => response.body(observed.text()),
        _ => {
            let response = response.status(StatusCode::NOT_FOUND);
            response.body("the metrics are at /metrics\n".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jumpstarter_driver_core::Driver;
    use jumpstarter_exporter::SessionOptions;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    struct Oven;

    impl Driver for Oven {
        fn gauges(&self) -> Vec<Gauge> {
            let heat = |place: &str, value| {
                Gauge::new("heat_celsius", "How hot.", value).label("place", place)
            };
            vec![heat("to\\p \"1\"\n", 20.5), heat("bottom", 300.0)]
        }
    }

    /// Serves metrics; returns the address, and the handle of the server.
    async fn served() -> (SocketAddr, AbortOnDropHandle<()>) {
        let session = Session::new(Device::of_driver(Oven), SessionOptions::default()).unwrap();
        let listener = MetricsListener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let observed = Observed::of_joined(Counted::default());
        observed.set_session(Some(&session));
        (listener.0.local_addr().unwrap(), listener.serve(observed))
    }

    async fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn metrics_are_read_over_http() {
        let (address, _server) = served().await;
        let text = ask(address, b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        for line in [
            "HTTP/1.1 200 OK",
            "content-type: text/plain; version=0.0.4",
            "connection: close",
            "jumpstarter_calls_total 0",
            "jumpstarter_open_streams 0",
            "# TYPE jumpstarter_heat_celsius gauge",
            r#"jumpstarter_heat_celsius{path="",place="to\\p \"1\"\n"} 20.5"#,
            r#"jumpstarter_heat_celsius{path="",place="bottom"} 300"#,
            "jumpstarter_controller_connected 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        let text = ask(address, b"GET /else HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(text.starts_with("HTTP/1.1 404 Not Found"), "{text}");
    }

    #[tokio::test]
    async fn requests_are_bounded_in_size_time_and_number() {
        let (address, _server) = served().await;
        let mut endless = TcpStream::connect(address).await.unwrap();
        let long = [b"GET / HTTP/1.1\r\nx: ".as_slice(), &[b'x'; 2 * MAX_REQUEST]].concat();
        endless.write_all(&long).await.unwrap();
        let mut answer = Vec::new();
        // The server refuses the request, or resets the rest of it.
        drop(endless.read_to_end(&mut answer).await);
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
        let began = std::time::Instant::now();
        let mut silent = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let text = ask(address, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
        assert!(began.elapsed() >= REQUEST_LIMIT / 2, "it waited for those who say nothing");
    }
}
