//! A lamp whose brightness can be set: a driver with a new interface.

use std::sync::{Mutex, PoisonError};

use jumpstarter::prelude::*;

/// Dims a lamp.
#[interface(
    crate = jumpstarter,
    name = "acme-lamp",
    client = "jumpstarter_driver_acme_lamp.client.AcmeLampClient"
)]
pub trait AcmeLamp {
    /// Sets the brightness in percent, and returns the previous one. Fails with `InvalidArgument`
    /// above 100.
    async fn set_brightness(&self, percent: u8) -> Result<u8>;

    /// Returns the brightness in percent.
    async fn brightness(&self) -> Result<u8>;
}

/// A lamp whose brightness can be set.
#[config(crate = jumpstarter)]
#[derive(Debug)]
pub struct AcmeLampConfig {
    /// The initial brightness, in percent.
    #[serde(default)]
    brightness: u8,
}

/// The driver of [`AcmeLampConfig`].
#[derive(Debug)]
pub struct AcmeLampDriver {
    brightness: Mutex<u8>,
}

#[async_trait]
impl DriverConfig for AcmeLampConfig {
    const NAME: &'static str = "acme-lamp";
    type Driver = AcmeLampDriver;

    fn check(&self) -> Vec<ConfigProblem> {
        let error = checked(self.brightness).err();
        error
            .map(|error| ConfigProblem::new("brightness", error.report()))
            .into_iter()
            .collect()
    }

    async fn open(self, _: OpenContext) -> Result<AcmeLampDriver> {
        Ok(AcmeLampDriver {
            brightness: Mutex::new(self.brightness),
        })
    }
}
register_driver!(AcmeLampConfig);

impl Driver for AcmeLampDriver {
    interfaces!(AcmeLamp);
}

#[async_trait]
impl AcmeLamp for AcmeLampDriver {
    async fn set_brightness(&self, percent: u8) -> Result<u8> {
        let percent = checked(percent)?;
        let mut brightness = self
            .brightness
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::replace(&mut *brightness, percent))
    }

    async fn brightness(&self) -> Result<u8> {
        Ok(*self
            .brightness
            .lock()
            .unwrap_or_else(PoisonError::into_inner))
    }
}

fn checked(percent: u8) -> Result<u8> {
    match percent {
        0..=100 => Ok(percent),
        _ => Err(Error::invalid_argument(format!(
            "{percent} percent is brighter than it can be"
        ))),
    }
}
