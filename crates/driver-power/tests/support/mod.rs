//! A web server that the test answers for, and devices of one driver.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses a part")]

#[cfg(feature = "snmp")]
pub mod snmpd;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{Registry, serde_json};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// Opens the driver `name`.
pub async fn open(name: &str, config: Value) -> Result<Device> {
    let entry = Registry::linked().find(name).unwrap();
    (entry.open)(config, OpenContext::at("power")).await.map(Device::of_shared_driver)
}

/// The configuration with another value of a field.
pub fn with(mut config: Value, field: &str, value: Value) -> Value {
    config[field] = value;
    config
}

/// The driver's switch.
pub fn power(device: &Device) -> Arc<dyn Power> {
    device.get::<dyn Power>("").unwrap()
}

/// All that the meter says.
pub async fn readings(power: &dyn Power) -> Result<Vec<(f64, f64)>> {
    use futures_util::TryStreamExt;
    let readings = power.read().await?.map_ok(|reading| (reading.voltage, reading.current));
    readings.try_collect().await
}

/// What a request said: its first line, its headers in lower case, its body.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub line: String,
    pub head: String,
    pub body: String,
}

/// A server, and what it was asked.
pub struct Server {
    pub address: SocketAddr,
    pub asked: Arc<Mutex<Vec<Asked>>>,
}

/// What answers a request: a status line and a body; none keeps the client waiting.
pub type Answers = fn(&Asked) -> Option<(&'static str, String)>;

impl Server {
    /// Answers each connection's one request.
    pub async fn start(answers: Answers) -> Self {
        Self::with_tls(answers, None).await
    }

    pub async fn with_tls(answers: Answers, tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, tls) = (log.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &log, answers).await;
                            }
                        }
                        None => serve(stream, &log, answers).await,
                    }
                });
            }
        });
        Self { address, asked }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What was asked since the last time.
    pub fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    log: &Mutex<Vec<Asked>>,
    answers: Answers,
) {
    let Some(asked) = read(&mut stream).await else { return };
    log.lock().unwrap().push(asked.clone());
    let Some((status, body)) = answers(&asked) else {
        return std::future::pending().await;
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.ok();
    stream.write_all(body.as_bytes()).await.ok();
    stream.shutdown().await.ok();
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Asked> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let (line, headers) = head.split_once("\r\n").unwrap_or((head, ""));
            let headers = headers.to_lowercase();
            let length = headers.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
            if body.len() >= length {
                let (line, body) = (line.to_owned(), body.to_owned());
                return Some(Asked { line, head: headers, body });
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}
