//! Chips: what can be wrong with a line, and requesting it.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use gpiocdev::line::{Bias, Drive, EdgeDetection, Info, Value};
use gpiocdev::{Chip, Request};
use jumpstarter_driver_core::prelude::*;

use crate::config::GpioLine;

/// The names of consumers of lines begin with this, as in Python.
const CONSUMER: &str = "jumpstarter-gpiod";
/// How long the kernel lets such a name be.
const CONSUMER_BYTES: usize = 31;

/// A line, and how it is used.
#[derive(Debug)]
pub(crate) struct Wiring {
    pub(crate) device: HostPath,
    pub(crate) line: GpioLine,
    pub(crate) is_active_low: bool,
    pub(crate) bias: Option<Bias>,
    /// The first level and the drive of an output.
    pub(crate) output: Option<(Value, Drive)>,
}

/// ENXIO of Linux: the chip has no interrupt for the line.
const NO_INTERRUPT: i32 = 6;
/// ENODEV of Linux: the chip was unplugged.
const NO_CHIP: i32 = 19;

/// An error of the kernel.
pub(crate) fn failed(error: gpiocdev::Error) -> Error {
    match number(&error) {
        None => Error::internal(error.to_string()),
        Some(NO_CHIP) => Error::unavailable("the chip was removed"),
        Some(NO_INTERRUPT) => Error::unimplemented("the chip does not report edges of this line")
            .with_hint("choose a line of another chip for an input"),
        Some(number) => Error::from(io::Error::from_raw_os_error(number)),
    }
}

/// The error's number in Linux.
fn number(error: &gpiocdev::Error) -> Option<i32> {
    match error {
        gpiocdev::Error::Os(number) => Some(number.0),
        gpiocdev::Error::Uapi(_, gpiocdev_uapi::Error::Os(number)) => Some(number.0),
        _ => None,
    }
}

/// What is wrong with a line now, for `jmp check`. Requests nothing.
pub(crate) fn problems(wiring: &Wiring) -> Vec<ConfigProblem> {
    match find(wiring) {
        Ok(_) => Vec::new(),
        Err((field, error)) => vec![ConfigProblem::from_error(field, &error)],
    }
}

/// Requests the line for the driver at `path`. Returns what it is, for people, and the line.
pub(crate) async fn request(wiring: Wiring, path: &str) -> Result<(String, Arc<Request>)> {
    let consumer = consumer(path);
    blocking(move || {
        let (chip, info) = find(&wiring).map_err(|(_, error)| error)?;
        let mut builder = Request::builder();
        builder.on_chip(chip.path()).with_consumer(consumer).with_line(info.offset);
        match wiring.output {
            Some((value, drive)) => builder.as_output(value).with_drive(drive),
            None => builder.as_input().with_edge_detection(EdgeDetection::BothEdges),
        };
        builder.with_bias(wiring.bias);
        if wiring.is_active_low {
            builder.as_active_low();
        }
        let name = name(&chip, &info);
        let request = builder.request().map_err(failed);
        let request = request.with_context(|| format!("requesting {name}"))?;
        Ok((name, Arc::new(request)))
    })
    .await
}

fn consumer(path: &str) -> String {
    let mut consumer = format!("{CONSUMER}:{path}");
    consumer.truncate(consumer.floor_char_boundary(CONSUMER_BYTES));
    consumer
}

/// "line 3 (RELAY) of /dev/gpiochip0"
fn name(chip: &Chip, info: &Info) -> String {
    let named = match info.name.as_str() {
        "" => String::new(),
        name => format!(" ({name})"),
    };
    format!("line {}{named} of {}", info.offset, chip.path().display())
}

/// The chip and the line, which nobody uses; or the field that is wrong.
fn find(wiring: &Wiring) -> Result<(Chip, Info), (&'static str, Error)> {
    let chip = open(&wiring.device).map_err(|error| ("device", error))?;
    let info = line(&chip, &wiring.line).map_err(|error| ("line", error))?;
    if info.used {
        return Err(("line", in_use(&name(&chip, &info), &info.consumer)));
    }
    Ok((chip, info))
}

fn in_use(name: &str, consumer: &str) -> Error {
    let by = match consumer {
        "" => "the kernel, or something without a name".to_owned(),
        consumer => format!("`{}`", consumer.escape_debug()),
    };
    let hint = match consumer.starts_with(CONSUMER) {
        true => "another driver of an exporter has it: end that exporter, or choose another line",
        false => "end what uses it, or choose another line; `gpioinfo` lists them",
    };
    Error::failed_precondition(format!("{name} is in use by {by}")).with_hint(hint)
}

fn open(device: &HostPath) -> Result<Chip> {
    let doing = || format!("opening the GPIO chip {device}");
    let path = match device.find() {
        Ok(path) => path,
        Err(error) => return Err(error.with_hint(chips())),
    };
    let metadata = fs::metadata(&path).map_err(Error::from).with_context(doing)?;
    if !metadata.file_type().is_char_device() {
        return Err(no_chip(&path));
    }
    match Chip::from_path(&path) {
        Ok(chip) => match chip.info() {
            Ok(_) => Ok(chip),
            Err(_) => Err(no_chip(&path)),
        },
        Err(gpiocdev::Error::GpioChip(..)) => Err(no_chip(&path)),
        Err(error) => match failed(error) {
            error if error.kind() == ErrorKind::PermissionDenied => {
                Err(error.with_hint(permission(metadata.gid(), metadata.mode())).context(doing()))
            }
            error => Err(error.context(doing())),
        },
    }
}

fn no_chip(path: &Path) -> Error {
    Error::invalid_argument(format!("`{}` is no GPIO chip", path.display())).with_hint(chips())
}

/// The chips of this machine, as a hint.
fn chips() -> String {
    let found = gpiocdev::chip::chips().unwrap_or_default();
    let found: Vec<String> = found.iter().map(|path| path.display().to_string()).collect();
    match found.is_empty() {
        true => {
            "this machine has no GPIO chip that can be seen; is its kernel module loaded?".into()
        }
        false => {
            format!("the machine's chips: {}", suggest::list(found.iter().map(String::as_str)))
        }
    }
}

/// How to get access to a device of a group.
fn permission(group: u32, mode: u32) -> String {
    let may_group = mode & 0o060 == 0o060;
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    match group_name(&groups, group) {
        Some(name) if may_group && group != 0 => format!(
            "add the exporter's user to the group `{name}` (`usermod -aG {name} USER`) and log in again"
        ),
        _ => "give a group access by a rule of udev: \
              SUBSYSTEM==\"gpio\", KERNEL==\"gpiochip*\", GROUP=\"gpio\", MODE=\"0660\"; \
              then add the exporter's user to it"
            .to_owned(),
    }
}

/// The name of a group in the text of `/etc/group`.
fn group_name(groups: &str, wanted: u32) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number: u32 = fields.nth(1)?.parse().ok()?;
        (number == wanted).then_some(name)
    })
}

fn line(chip: &Chip, wanted: &GpioLine) -> Result<Info> {
    let device = chip.path().display();
    let count = chip.info().map_err(failed)?.num_lines;
    let missing = || Error::not_found(format!("{device} has no {wanted}"));
    match wanted {
        GpioLine::Number(number) if *number < count => chip.line_info(*number).map_err(failed),
        GpioLine::Number(_) => {
            let last = count.saturating_sub(1);
            Err(missing().with_hint(format!("its lines are 0 to {last}")))
        }
        GpioLine::Name(name) => {
            let lines: Vec<Info> = chip.line_info_iter().map_err(failed)?.flatten().collect();
            let mut found = lines.iter().filter(|info| info.name == *name);
            match (found.next(), found.next()) {
                (Some(info), None) => Ok(info.clone()),
                (Some(one), Some(other)) => {
                    let (one, other) = (one.offset, other.offset);
                    let message =
                        format!("{device} has several lines `{name}`, such as {one} and {other}");
                    Err(Error::invalid_argument(message).with_hint("write the line's number"))
                }
                _ => {
                    let names = lines.iter().map(|info| info.name.as_str());
                    let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
                    Err(missing().with_hint(match names.is_empty() {
                        true => "its lines have no names: write the line's number".to_owned(),
                        false => suggest::hint(name, names),
                    }))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_named() {
        let groups = "root:x:0:\nbroken\ngpio:x:997:pi,lab\n";
        assert_eq!(group_name(groups, 997), Some("gpio"));
        assert_eq!(group_name(groups, 5), None);
        assert!(permission(0, 0o600).contains("rule of udev"));
    }

    #[test]
    fn consumers_are_as_long_as_the_kernel_lets_them_be() {
        assert_eq!(consumer("power"), "jumpstarter-gpiod:power");
        assert_eq!(consumer("rack.boards.größer"), "jumpstarter-gpiod:rack.boards.g");
        assert_eq!(consumer("rack.boardsßß.x").len(), 31);
    }

    #[test]
    fn who_has_a_line_is_named() {
        let other = in_use("line 3 of /dev/gpiochip0", "gpioset").report();
        assert!(other.contains("is in use by `gpioset`") && other.contains("gpioinfo"), "{other}");
        let ours = in_use("line 3 of /dev/gpiochip0", "jumpstarter-gpiod:led").report();
        assert!(ours.contains("another driver of an exporter"), "{ours}");
        let kernel = in_use("line 3 of /dev/gpiochip0", "").report();
        assert!(kernel.contains("by the kernel"), "{kernel}");
    }
}
