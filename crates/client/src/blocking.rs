//! The client without async: the same device, with calls that wait for their answers.
//!
//! ```no_run
//! use jumpstarter_client::blocking::Device;
//! use jumpstarter_driver_core::{ImageSource, Power};
//!
//! # fn main() -> jumpstarter_driver_core::Result<()> {
//! let device = Device::from_env()?;
//! device.flash("flasher", ImageSource::path("os.img.zst"), None)?;
//! let power = device.get::<dyn Power>("power")?;
//! device.block_on(power.on())?;
//! device.call("power", "off", vec![])?;
//! device.close()
//! # }
//! ```
//!
//! For the log, the state or the loss of an exporter, use [`Exporter`]:
//!
//! ```no_run
//! use std::time::Duration;
//! use jumpstarter_client::{ConnectOptions, blocking};
//!
//! # fn main() -> jumpstarter_driver_core::Result<()> {
//! let exporter = blocking::connect(&ConnectOptions::from_env()?)?;
//! exporter.wait_ready(Duration::from_secs(60))?;
//! exporter.device().call("power", "on", vec![])?;
//! for record in exporter.logs()? {
//!     println!("{}", record?.message);
//! }
//! # Ok(()) }
//! ```
//!
//! Each [`Device`] and [`Exporter`] has its own runtime, on separate threads, which lives as long
//! as they, their streams and their connections. They must not be used inside async code, where
//! waiting would block everything else: making one there is an error, waiting there panics.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use jumpstarter_driver_core::channel::ChannelIo;
use jumpstarter_driver_core::{
    Error, Flasher, ImageSink, ImageSource, Interface, Result, ValueStream,
};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Handle};

use crate::{Address, ConnectOptions, DeviceExt, LogRecord, Status};

/// Connects to an exporter, as [`connect`](crate::connect()).
///
/// # Errors
/// The errors of [`connect`](crate::connect()); `FailedPrecondition` inside async code;
/// `ResourceExhausted` if the system has no thread left.
pub fn connect(options: &ConnectOptions) -> Result<Exporter> {
    let runtime = Runtime::new()?;
    let exporter = runtime.wait(crate::connect(options))?;
    let device = Device { device: exporter.device().clone(), runtime: runtime.clone() };
    Ok(Exporter { exporter, device, runtime })
}

/// The runtime, shared by its users. It ends with the last of them.
#[derive(Clone, Debug)]
struct Runtime(Arc<Owned>);

/// Dropped without waiting, since it may be dropped anywhere.
#[derive(Debug)]
struct Owned {
    handle: Handle,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Runtime {
    fn new() -> Result<Self> {
        if Handle::try_current().is_ok() {
            return Err(Error::failed_precondition(
                "a blocking device cannot be used inside async code",
            )
            .with_hint("use jumpstarter_driver_core::Device there, and await its calls"));
        }
        // tokio panics if the system gives it no thread, so the runtime begins on an existing one.
        let build = || Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let building = std::thread::Builder::new().name("jumpstarter".to_owned()).spawn(build);
        let built = building.map_err(no_thread)?.join();
        let runtime = built.map_err(|_| no_thread(io::ErrorKind::WouldBlock.into()))??;
        Ok(Self(Arc::new(Owned { handle: runtime.handle().clone(), runtime: Some(runtime) })))
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.0.handle.block_on(work)
    }
}

fn no_thread(error: io::Error) -> Error {
    Error::resource_exhausted("making a thread for a blocking device")
        .with_source(error)
        .with_hint("raise the limits of threads and memory: see `ulimit -u` and `ulimit -v`")
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A connection to an exporter: see [`Exporter`](crate::Exporter).
#[derive(Debug)]
pub struct Exporter {
    exporter: crate::Exporter,
    device: Device,
    runtime: Runtime,
}

impl Exporter {
    /// The handle to the exporter's drivers; its interfaces are async, see [`Device::block_on`].
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Its configured name.
    pub fn name(&self) -> Option<&str> {
        self.exporter.name()
    }

    /// Its message of the day, for people who enter a shell.
    pub fn motd(&self) -> Option<&str> {
        self.exporter.motd()
    }

    /// The address that this connection uses.
    pub fn address(&self) -> &Address {
        self.exporter.address()
    }

    /// Asks for its current state.
    ///
    /// # Errors
    /// As [`Exporter::status`](crate::Exporter::status).
    pub fn status(&self) -> Result<Status> {
        self.runtime.wait(self.exporter.status())
    }

    /// Waits until it accepts calls, at most `limit`.
    ///
    /// # Errors
    /// As [`Exporter::wait_ready`](crate::Exporter::wait_ready).
    pub fn wait_ready(&self, limit: Duration) -> Result<()> {
        self.runtime.wait(self.exporter.wait_ready(limit))
    }

    /// Subscribes to its log, record by record. Dropping it ends the subscription.
    ///
    /// # Errors
    /// As [`Exporter::logs`](crate::Exporter::logs).
    pub fn logs(&self) -> Result<Logs> {
        let records = self.runtime.wait(self.exporter.logs())?;
        Ok(Logs { records, runtime: self.runtime.clone() })
    }

    /// Waits until the connection ends, and returns the reason.
    pub fn lost(&self) -> Error {
        self.runtime.wait(self.exporter.lost())
    }

    /// Ends the connection, and every call on it.
    ///
    /// # Errors
    /// As [`Device::close`].
    pub fn close(self) -> Result<()> {
        self.device.close()
    }
}

/// The log of an exporter, record by record; the last item is the error that ended it.
pub struct Logs {
    records: BoxStream<'static, Result<LogRecord>>,
    runtime: Runtime,
}

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Logs")
    }
}

impl Iterator for Logs {
    type Item = Result<LogRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        self.runtime.wait(self.records.next())
    }
}

/// A local or remote device, with the runtime that drives it.
#[derive(Debug)]
pub struct Device {
    device: jumpstarter_driver_core::Device,
    runtime: Runtime,
}

impl Device {
    /// As [`DeviceExt::from_env`].
    ///
    /// # Errors
    /// The errors of [`DeviceExt::from_env`]; `FailedPrecondition` inside async code;
    /// `ResourceExhausted` if the system has no thread left.
    pub fn from_env() -> Result<Self> {
        let runtime = Runtime::new()?;
        let device = runtime.wait(<jumpstarter_driver_core::Device as DeviceExt>::from_env())?;
        Ok(Self { device, runtime })
    }

    /// The device of an exporter.
    ///
    /// # Errors
    /// As [`connect`](crate::connect()); `FailedPrecondition` inside async code.
    pub fn connect(options: &ConnectOptions) -> Result<Self> {
        connect(options).map(|exporter| exporter.device)
    }

    /// The async handle of the same device, for [`block_on`](Self::block_on).
    pub fn device(&self) -> &jumpstarter_driver_core::Device {
        &self.device
    }

    /// Waits for the answer of an interface's method: `device.block_on(power.on())`.
    ///
    /// # Panics
    /// Inside async code.
    pub fn block_on<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime.wait(call)
    }

    /// The driver at `path` by one of its interfaces, whose methods [`block_on`](Self::block_on)
    /// waits for.
    ///
    /// # Errors
    /// As [`Device::get`](jumpstarter_driver_core::Device::get).
    pub fn get<I: Interface + ?Sized>(&self, path: &str) -> Result<Arc<I>> {
        self.device.get::<I>(path)
    }

    /// Calls a method by name.
    ///
    /// # Errors
    /// As [`Device::call`](jumpstarter_driver_core::Device::call).
    pub fn call(&self, path: &str, method: &str, arguments: Vec<Value>) -> Result<Value> {
        self.block_on(self.device.call(path, method, arguments))
    }

    /// Calls a streaming method by name. Dropping the values ends the stream.
    ///
    /// # Errors
    /// As [`Device::stream`](jumpstarter_driver_core::Device::stream).
    pub fn stream(&self, path: &str, method: &str, arguments: Vec<Value>) -> Result<Values> {
        let values = self.block_on(self.device.stream(path, method, arguments))?;
        Ok(Values { values, runtime: self.runtime.clone() })
    }

    /// Opens a byte channel by its method's name, to read from and write to. Dropping it closes it.
    ///
    /// # Errors
    /// As [`Device::connect`](jumpstarter_driver_core::Device::connect); `InvalidArgument` if it
    /// carries datagrams.
    pub fn open_channel(&self, path: &str, method: &str) -> Result<Connection> {
        let channel = self.block_on(self.device.connect(path, method))?;
        Ok(Connection { io: channel.into_io()?, runtime: self.runtime.clone() })
    }

    /// Flashes an image: see [`Flasher::flash`].
    ///
    /// # Errors
    /// The errors of [`Flasher::flash`].
    pub fn flash(&self, path: &str, source: ImageSource, target: Option<&str>) -> Result<()> {
        self.block_on(self.get::<dyn Flasher>(path)?.flash(source, target.map(str::to_owned)))
    }

    /// Reads an image back: see [`Flasher::dump`].
    ///
    /// # Errors
    /// The errors of [`Flasher::dump`].
    pub fn dump(&self, path: &str, target: ImageSink, partition: Option<&str>) -> Result<()> {
        self.block_on(self.get::<dyn Flasher>(path)?.dump(target, partition.map(str::to_owned)))
    }

    /// As [`Device::close`](jumpstarter_driver_core::Device::close).
    ///
    /// # Errors
    /// As [`Device::close`](jumpstarter_driver_core::Device::close).
    pub fn close(self) -> Result<()> {
        self.block_on(self.device.close())
    }
}

/// The values of a stream, one by one.
pub struct Values {
    values: ValueStream<Value>,
    runtime: Runtime,
}

impl std::fmt::Debug for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Values")
    }
}

impl Iterator for Values {
    type Item = Result<Value>;

    fn next(&mut self) -> Option<Self::Item> {
        self.runtime.wait(self.values.next())
    }
}

/// A byte connection to a driver.
#[derive(Debug)]
pub struct Connection {
    io: ChannelIo,
    runtime: Runtime,
}

impl Connection {
    /// Ends the sending direction; the receiving one continues.
    ///
    /// # Errors
    /// The connection's errors.
    pub fn finish(&mut self) -> io::Result<()> {
        self.runtime.wait(self.io.shutdown())
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.runtime.wait(self.io.read(buffer))
    }
}

impl Write for Connection {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.runtime.wait(self.io.write(data))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.runtime.wait(self.io.flush())
    }
}
