//! What an exporter file says of a line.

use std::fmt;

use gpiocdev::line::{Bias, Drive, Value};
use jumpstarter_driver_core::prelude::*;

use crate::chip::{self, Wiring};
use crate::input::GpioInput;
use crate::output::GpioOutput;

/// A line of a chip.
#[config]
#[derive(Clone, Debug, PartialEq, Eq)]
#[serde(untagged, expecting = "expected the number of a line, or its name")]
pub enum GpioLine {
    /// Its number on the chip.
    Number(u32),
    /// The name that the chip's driver gives it.
    Name(String),
}

impl fmt::Display for GpioLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "line {number}"),
            Self::Name(name) => write!(f, "line `{}`", name.escape_debug()),
        }
    }
}

/// How an output is driven.
#[config]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum GpioDrive {
    /// To both levels.
    PushPull,
    /// To the low level only; something else pulls the line up.
    OpenDrain,
    /// To the high level only; something else pulls the line down.
    OpenSource,
}

/// The resistors of a line.
#[config]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum GpioBias {
    /// They stay as they are.
    AsIs,
    /// The line is pulled up.
    PullUp,
    /// The line is pulled down.
    PullDown,
    /// There are none.
    Disabled,
}

/// A logical level, in the words of the Python driver.
#[config]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[serde(untagged, expecting = "expected active, inactive, on, off, true or false")]
pub enum GpioLevel {
    /// True is active.
    Flag(bool),
    /// As text.
    Word(GpioWord),
}

/// A word for a logical level.
#[config]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum GpioWord {
    /// The line is on.
    Active,
    /// As `active`.
    On,
    /// The line is off.
    Inactive,
    /// As `inactive`.
    Off,
}

impl GpioLevel {
    fn value(level: Option<Self>) -> Value {
        match level {
            Some(Self::Flag(true) | Self::Word(GpioWord::Active | GpioWord::On)) => Value::Active,
            _ => Value::Inactive,
        }
    }
}

fn first_chip() -> HostPath {
    "/dev/gpiochip0".into()
}

fn bias(bias: Option<GpioBias>) -> Option<Bias> {
    match bias? {
        GpioBias::AsIs => None,
        GpioBias::PullUp => Some(Bias::PullUp),
        GpioBias::PullDown => Some(Bias::PullDown),
        GpioBias::Disabled => Some(Bias::Disabled),
    }
}

fn drive(drive: Option<GpioDrive>) -> Drive {
    match drive {
        None | Some(GpioDrive::PushPull) => Drive::PushPull,
        Some(GpioDrive::OpenDrain) => Drive::OpenDrain,
        Some(GpioDrive::OpenSource) => Drive::OpenSource,
    }
}

/// An output line.
#[config]
#[derive(Debug)]
pub struct GpioOutputConfig {
    /// The chip's device.
    #[serde(default = "first_chip")]
    #[schemars(with = "HostPath")]
    device: HostPath,
    /// The line's number on the chip, or its name.
    line: GpioLine,
    /// How the line is driven: `push_pull`, `open_drain` or `open_source`; `push_pull` where it is
    /// not given.
    drive: Option<GpioDrive>,
    /// Whether the low level is the active one.
    #[serde(default)]
    active_low: bool,
    /// The line's resistors: `as_is`, `pull_up`, `pull_down` or `disabled`; `as_is` where it is not
    /// given.
    bias: Option<GpioBias>,
    /// The level when the driver is opened: `active`, `on` or true, `inactive`, `off` or false;
    /// `inactive` where it is not given.
    initial_value: Option<GpioLevel>,
    /// What the end of a lease does: `keep` leaves the line as it is, `off` makes it inactive.
    #[serde(default)]
    close: AtClose,
}

impl GpioOutputConfig {
    fn wiring(&self) -> Wiring {
        Wiring {
            device: self.device.clone(),
            line: self.line.clone(),
            is_active_low: self.active_low,
            bias: bias(self.bias),
            output: Some((GpioLevel::value(self.initial_value), drive(self.drive))),
        }
    }
}

#[async_trait]
impl DriverConfig for GpioOutputConfig {
    const NAME: &'static str = "gpio-output";
    const PYTHON_NAMES: &'static [&'static str] =
        &["jumpstarter_driver_gpiod.driver.DigitalOutput"];
    const SYNONYMS: &'static [(&'static str, &'static str)] =
        &[("pin", "line"), ("chip", "device"), ("offset", "line")];
    type Driver = GpioOutput;

    fn warnings(&self) -> Vec<ConfigProblem> {
        chip::problems(&self.wiring())
    }

    async fn open(self, context: OpenContext) -> Result<GpioOutput> {
        const CLIENT: &str = "jumpstarter_driver_gpiod.client.DigitalOutputClient";
        GpioOutput::open(self.wiring(), self.close, Some(CLIENT), context.path()).await
    }
}
register_driver!(GpioOutputConfig);

/// A line that switches the power of a device.
#[config]
#[derive(Debug)]
pub struct GpioPowerConfig {
    /// The chip's device.
    #[serde(default = "first_chip")]
    #[schemars(with = "HostPath")]
    device: HostPath,
    /// The line's number on the chip, or its name.
    line: GpioLine,
    /// How the line is driven: `push_pull`, `open_drain` or `open_source`; `push_pull` where it is
    /// not given.
    drive: Option<GpioDrive>,
    /// Whether the low level switches on.
    #[serde(default)]
    active_low: bool,
    /// The line's resistors: `as_is`, `pull_up`, `pull_down` or `disabled`; `as_is` where it is not
    /// given.
    bias: Option<GpioBias>,
    /// The level when the driver is opened: `active`, `on` or true, `inactive`, `off` or false;
    /// `inactive` where it is not given.
    initial_value: Option<GpioLevel>,
    /// Has no effect, as in the Python driver: write `drive` instead.
    #[serde(default = "push_pull")]
    mode: String,
    /// What the end of a lease does: `keep` leaves the line as it is, `off` switches off.
    #[serde(default)]
    close: AtClose,
}

fn push_pull() -> String {
    "push_pull".to_owned()
}

impl GpioPowerConfig {
    fn wiring(&self) -> Wiring {
        Wiring {
            device: self.device.clone(),
            line: self.line.clone(),
            is_active_low: self.active_low,
            bias: bias(self.bias),
            output: Some((GpioLevel::value(self.initial_value), drive(self.drive))),
        }
    }
}

#[async_trait]
impl DriverConfig for GpioPowerConfig {
    const NAME: &'static str = "gpio-power";
    const PYTHON_NAMES: &'static [&'static str] = &["jumpstarter_driver_gpiod.driver.PowerSwitch"];
    const SYNONYMS: &'static [(&'static str, &'static str)] = GpioOutputConfig::SYNONYMS;
    type Driver = GpioOutput;

    fn warnings(&self) -> Vec<ConfigProblem> {
        let mut found = chip::problems(&self.wiring());
        if self.mode != push_pull() {
            let problem = ConfigProblem::new("mode", "has no effect");
            found.push(problem.with_hint("write `drive` instead"));
        }
        found
    }

    async fn open(self, context: OpenContext) -> Result<GpioOutput> {
        GpioOutput::open(self.wiring(), self.close, None, context.path()).await
    }
}
register_driver!(GpioPowerConfig);

/// An input line.
#[config]
#[derive(Debug)]
pub struct GpioInputConfig {
    /// The chip's device.
    #[serde(default = "first_chip")]
    #[schemars(with = "HostPath")]
    device: HostPath,
    /// The line's number on the chip, or its name.
    line: GpioLine,
    /// An input is not driven: only `push_pull` is accepted, for files of the Python driver.
    drive: Option<GpioDrive>,
    /// Whether the low level is the active one.
    #[serde(default)]
    active_low: bool,
    /// The line's resistors: `as_is`, `pull_up`, `pull_down` or `disabled`; `as_is` where it is not
    /// given.
    bias: Option<GpioBias>,
}

impl GpioInputConfig {
    fn wiring(&self) -> Wiring {
        Wiring {
            device: self.device.clone(),
            line: self.line.clone(),
            is_active_low: self.active_low,
            bias: bias(self.bias),
            output: None,
        }
    }
}

#[async_trait]
impl DriverConfig for GpioInputConfig {
    const NAME: &'static str = "gpio-input";
    const PYTHON_NAMES: &'static [&'static str] = &["jumpstarter_driver_gpiod.driver.DigitalInput"];
    const SYNONYMS: &'static [(&'static str, &'static str)] = GpioOutputConfig::SYNONYMS;
    type Driver = GpioInput;

    fn check(&self) -> Vec<ConfigProblem> {
        match self.drive {
            Some(GpioDrive::OpenDrain | GpioDrive::OpenSource) => {
                let problem = ConfigProblem::new("drive", "is for outputs: an input is not driven");
                vec![problem.with_hint("remove it; `bias` sets the line's resistors")]
            }
            _ => Vec::new(),
        }
    }

    fn warnings(&self) -> Vec<ConfigProblem> {
        chip::problems(&self.wiring())
    }

    async fn open(self, context: OpenContext) -> Result<GpioInput> {
        GpioInput::open(self.wiring(), context.path()).await
    }
}
register_driver!(GpioInputConfig);
