//! Connects to an exporter and gives its device: the same [`Device`](jumpstarter_driver_core::Device) handle as that
//! of a device in this process, whether the exporter is of this project or the one in Python.
//!
//! A test that is written once, and runs wherever the device is:
//!
//! ```no_run
//! use jumpstarter_client::DeviceExt;
//! use jumpstarter_driver_core::prelude::*;
//!
//! # async fn run() -> Result<()> {
//! let device = Device::from_env().await?;
//! device.get::<dyn Flasher>("flasher")?.flash(ImageSource::path("os.img.zst"), None).await?;
//! device.get::<dyn Power>("power")?.on().await?;
//! device.close().await
//! # }
//! ```
//!
//! | variable | meaning |
//! |---|---|
//! | `JUMPSTARTER_HOST` | the exporter: the path of its Unix socket, or `HOST:PORT`; `jmp shell` sets it |
//! | `JMP_EXPORTER_CONFIG` | without `JUMPSTARTER_HOST`: the exporter file whose device runs in this process |
//! | `JMP_GRPC_INSECURE` | `1`: TCP without TLS |
//! | `JMP_GRPC_CA` | a PEM file of authorities to trust instead of the system's |
//! | `GRPC_DEFAULT_SSL_ROOTS_FILE_PATH` | the same, as gRPC's other clients know it |
//! | `JMP_GRPC_CERT`, `JMP_GRPC_KEY` | a client certificate and its key, PEM |
//! | `JMP_GRPC_PASSPHRASE` | what the exporter asks for |
//!
//! Who needs more than the device (log, state, being told that the exporter is gone) holds an [`Exporter`]:
//!
//! ```no_run
//! # async fn run() -> jumpstarter_driver_core::Result<()> {
//! let options = jumpstarter_client::ConnectOptions::new("lab.example:8082".parse()?).ca_file("lab-ca.pem");
//! let exporter = jumpstarter_client::connect(&options).await?;
//! exporter.wait_ready(std::time::Duration::from_secs(60)).await?;
//! tokio::select! {
//!     on = exporter.device().call("power", "on", vec![]) => drop(on?),
//!     gone = exporter.lost() => eprintln!("{}", gone.report()),
//! }
//! # Ok(()) }
//! ```
//!
//! Every call has a deadline ([`ConnectOptions::call_timeout`]) but those with images, which are given up when nothing
//! moves. Dropping a call's future, a stream or a channel cancels it on the exporter. An exporter that goes away is an
//! error of kind `Unavailable` at once.
//!
//! ```text
//! device.get::<dyn Power>("qemu.power") ─ proxy ─ Caller ─ Connection ─ HTTP/2 ─ TLS ─ exporter
//! ```

mod address;
pub mod blocking;
mod caller;
mod channel;
mod connect;
mod connection;
mod device;
mod exporter;
mod images;
mod options;
mod report;
mod socket;
mod storage_mux;
mod tls;
mod wire;

pub use address::Address;
pub use connect::connect;
pub use device::DeviceExt;
pub use exporter::{Exporter, ExporterState, LogRecord, Status};
pub use options::ConnectOptions;
