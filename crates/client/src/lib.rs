//! Connects to an exporter and returns its device: the same
//! [`Device`](jumpstarter_driver_core::Device) handle as for a local device, whether the exporter
//! is this project's or the one in Python.
//!
//! # A test that runs wherever the device is
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
//! | `JMP_LEASE` | without `JUMPSTARTER_HOST`: the lease of a lab whose device is used; it is kept |
//! | `JMP_SELECTOR` | without both: the labels of a device of a lab that is leased until it is closed |
//! | `JMP_EXPORTER_CONFIG` | without all of them: the exporter file whose device runs in this process |
//! | `JMP_GRPC_INSECURE` | `1`: TCP without TLS; an older name is `JUMPSTARTER_GRPC_INSECURE` |
//! | `JMP_GRPC_CA` | a PEM file of authorities to trust instead of the system's |
//! | `GRPC_DEFAULT_SSL_ROOTS_FILE_PATH` | the same, as gRPC's other clients know it |
//! | `JMP_GRPC_CERT`, `JMP_GRPC_KEY` | a client certificate and its key, PEM |
//! | `JMP_GRPC_PASSPHRASE` | what the exporter asks for |
//!
//! A local device has the drivers that the program links: `use jumpstarter_driver_power as _;`
//! links some. Without async use [`blocking`]:
//!
//! ```no_run
//! use jumpstarter_client::blocking::Device;
//!
//! # fn main() -> jumpstarter_driver_core::Result<()> {
//! let device = Device::from_env()?;
//! device.call("power", "on", vec![])?;
//! device.close()
//! # }
//! ```
//!
//! # Who knows where the exporter is
//!
//! [`connect()`] takes [`ConnectOptions`]. TCP uses TLS by default; a Unix socket needs none:
//!
//! ```no_run
//! use jumpstarter_client::{ConnectOptions, connect};
//!
//! # async fn run() -> jumpstarter_driver_core::Result<()> {
//! // Signed by an authority of one's own, and with a certificate to show.
//! let options = ConnectOptions::new("lab.example:8082".parse()?)
//!     .ca_file("lab-ca.pem")
//!     .client_certificate("me.pem", "me.key")
//!     .passphrase("s3cret");
//! let lab = connect(&options).await?;
//!
//! // As the environment says how, for another address than the environment's.
//! let other = connect(&ConnectOptions::to("/run/lab.sock")?).await?;
//! # drop((lab, other)); Ok(()) }
//! ```
//!
//! For more than the device (log, state, loss of the exporter) use [`Exporter`]:
//!
//! ```no_run
//! use std::time::Duration;
//! use futures_util::StreamExt;
//!
//! # async fn run(exporter: jumpstarter_client::Exporter) -> jumpstarter_driver_core::Result<()> {
//! exporter.wait_ready(Duration::from_secs(60)).await?;
//! let mut log = exporter.logs().await?;
//! tokio::spawn(async move {
//!     while let Some(Ok(record)) = log.next().await {
//!         println!("{}: {}", record.severity, record.message);
//!     }
//! });
//! tokio::select! {
//!     on = exporter.device().call("power", "on", vec![]) => drop(on?),
//!     gone = exporter.lost() => println!("{}", gone.report()),
//! }
//! # Ok(()) }
//! ```
//!
//! # Drivers that this program does not know
//!
//! Their methods are called by name, and have the exporter's descriptions:
//!
//! ```no_run
//! # async fn run(device: jumpstarter_driver_core::Device) -> jumpstarter_driver_core::Result<()> {
//! use futures_util::StreamExt;
//!
//! for node in device.nodes() {
//!     println!("{}: {}", node.path(), node.description().unwrap_or_default());
//! }
//! let level = device.call("relay", "level", vec![3.into()]).await?;
//! let mut readings = device.stream("meter", "read", vec![]).await?;
//! let first = readings.next().await.transpose()?;
//! let mut channel = device.connect("console", "connect").await?;
//! channel.send("uname -a\n").await?;
//! # drop((level, first)); Ok(()) }
//! ```
//!
//! # Images
//!
//! A source or sink is a local file, a reader or writer, or a URL, which the exporter accesses
//! itself. A compressed image stays compressed on the way:
//!
//! ```no_run
//! use std::sync::Mutex;
//! use jumpstarter_driver_core::image::{Encoding, Rate};
//! use jumpstarter_driver_core::prelude::*;
//!
//! # async fn run(flasher: &dyn Flasher) -> Result<()> {
//! let rate = Mutex::new(Rate::start());
//! let source = ImageSource::path("os.img.xz")
//!     .expect_sha256("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")?
//!     .with_observer(move |progress| {
//!         let Ok(mut rate) = rate.lock() else { return };
//!         rate.update(progress);
//!         println!("{:?}: {:.0} bytes a second", progress, rate.bytes_per_second());
//!     });
//! flasher.flash(source, Some("root".to_owned())).await?;
//! flasher.dump(ImageSink::path("backup.img.zst").with_encoding(Encoding::Zstd), None).await
//! # }
//! ```
//!
//! # Timeouts
//!
//! | what | limit | default |
//! |---|---|---|
//! | connecting, the report included | [`connect_timeout`](ConnectOptions::connect_timeout) | 10 s |
//! | a call's answer, the opening of a stream or channel | [`call_timeout`](ConnectOptions::call_timeout) | 5 min |
//! | an image that makes no progress | [`stall_timeout`](ConnectOptions::stall_timeout) | 2 min |
//! | the exporter's work on an image without a transfer | [`image_timeout`](ConnectOptions::image_timeout) | 1 h |
//! | a machine that acknowledges nothing (TCP), a silent exporter | [`keepalive`](ConnectOptions::keepalive) | 20 s |
//!
//! An open stream or channel has no time limit. Dropping a call's future, a stream or a channel
//! cancels it on the exporter. If the exporter is lost, every call, stream and channel fails at
//! once with `Unavailable`.
//!
//! ```text
//! device.get::<dyn Power>("qemu.power") ─ proxy ─ Caller ─ Connection ─ HTTP/2 ─ TLS ─ exporter
//! ```

pub mod blocking;
mod caller;
mod channel;
mod connect;
mod connection;
mod device;
mod exporter;
mod failure;
mod images;
#[cfg(feature = "lab")]
pub mod lab;
mod options;
mod remote_driver;
mod report;
mod socket;
mod storage_mux;
#[cfg_attr(not(feature = "tls"), path = "no_tls.rs")]
mod tls;
mod wire;

pub use connect::connect;
pub use device::DeviceExt;
pub use exporter::{Exporter, ExporterState, LogRecord, Status};
pub use jumpstarter_protocol::Address;
pub use options::ConnectOptions;
