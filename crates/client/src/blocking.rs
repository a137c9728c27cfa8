//! For those without async: the same device, each call waiting for its answer.
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
//! A [`Device`] has a runtime of its own, on threads of its own. It must not be used inside async code, where waiting
//! would hold up everything else: making one there is an error, [`Device::block_on`] there panics.

use std::io::{self, Read, Write};

use jumpstarter_driver_core::channel::ChannelIo;
use jumpstarter_driver_core::{Error, Flasher, ImageSink, ImageSource, Interface, Result, ValueStream};
use serde_json::Value;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::{ConnectOptions, DeviceExt};

/// A device, wherever it is, with the runtime that drives it.
#[derive(Debug)]
pub struct Device {
    device: jumpstarter_driver_core::Device,
    /// There until it is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
}

impl Device {
    /// As [`DeviceExt::from_env`].
    ///
    /// # Errors
    /// As there; `FailedPrecondition` inside async code.
    pub fn from_env() -> Result<Self> {
        Self::open(<jumpstarter_driver_core::Device as DeviceExt>::from_env())
    }

    /// The device of an exporter.
    ///
    /// # Errors
    /// As [`connect`](crate::connect()); `FailedPrecondition` inside async code.
    pub fn connect(options: &ConnectOptions) -> Result<Self> {
        Self::open(async { Ok(crate::connect(options).await?.device().clone()) })
    }

    fn open(opening: impl Future<Output = Result<jumpstarter_driver_core::Device>>) -> Result<Self> {
        if Handle::try_current().is_ok() {
            return Err(Error::failed_precondition("a blocking device cannot be used inside async code")
                .with_hint("use jumpstarter_driver_core::Device there, and await its calls"));
        }
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let device = runtime.block_on(opening)?;
        let handle = runtime.handle().clone();
        Ok(Self { device, runtime: Some(runtime), handle })
    }

    /// The async handle of the same device, for [`block_on`](Self::block_on).
    pub fn device(&self) -> &jumpstarter_driver_core::Device {
        &self.device
    }

    /// Waits for what an interface's method answers: `device.block_on(power.on())`.
    ///
    /// # Panics
    /// Inside async code.
    pub fn block_on<T>(&self, call: impl Future<Output = T>) -> T {
        self.handle.block_on(call)
    }

    /// The driver at `path` by one of its interfaces, whose methods [`block_on`](Self::block_on) waits for.
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
        Ok(Values { values, handle: self.handle.clone() })
    }

    /// Opens a byte channel by its method's name, to read from and write to. Dropping it closes it.
    ///
    /// # Errors
    /// As [`Device::connect`](jumpstarter_driver_core::Device::connect); `InvalidArgument` where it carries datagrams.
    pub fn open_channel(&self, path: &str, method: &str) -> Result<Connection> {
        let channel = self.block_on(self.device.connect(path, method))?;
        Ok(Connection { io: channel.into_io()?, handle: self.handle.clone() })
    }

    /// Flashes an image: see [`Flasher::flash`].
    ///
    /// # Errors
    /// As there.
    pub fn flash(&self, path: &str, source: ImageSource, target: Option<&str>) -> Result<()> {
        self.block_on(self.get::<dyn Flasher>(path)?.flash(source, target.map(str::to_owned)))
    }

    /// Reads an image back: see [`Flasher::dump`].
    ///
    /// # Errors
    /// As there.
    pub fn dump(&self, path: &str, target: ImageSink, partition: Option<&str>) -> Result<()> {
        self.block_on(self.get::<dyn Flasher>(path)?.dump(target, partition.map(str::to_owned)))
    }

    /// As [`Device::close`](jumpstarter_driver_core::Device::close).
    ///
    /// # Errors
    /// As there.
    pub fn close(self) -> Result<()> {
        self.block_on(self.device.close())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The values of a stream, one by one. It must not outlive its [`Device`].
pub struct Values {
    values: ValueStream<Value>,
    handle: Handle,
}

impl std::fmt::Debug for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Values")
    }
}

impl Iterator for Values {
    type Item = Result<Value>;

    fn next(&mut self) -> Option<Self::Item> {
        self.handle.block_on(futures_util::StreamExt::next(&mut self.values))
    }
}

/// A byte connection to a driver. It must not outlive its [`Device`].
#[derive(Debug)]
pub struct Connection {
    io: ChannelIo,
    handle: Handle,
}

impl Connection {
    /// Ends the sending direction; the reading one goes on.
    ///
    /// # Errors
    /// As the connection's.
    pub fn finish(&mut self) -> io::Result<()> {
        self.handle.block_on(self.io.shutdown())
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.handle.block_on(self.io.read(buffer))
    }
}

impl Write for Connection {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.handle.block_on(self.io.write(data))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.handle.block_on(self.io.flush())
    }
}
