//! The largest accepted device, here and elsewhere: far above real devices, far below a program's
//! memory.

use std::fmt;

/// The most drivers, including those behind proxies.
pub const MAX_DRIVERS: usize = 10_000;
/// The most levels below the root, through proxies. The JSON of a tree has twice as many, and many
/// JSON readers stop at 128.
pub const MAX_DEPTH: usize = 60;
/// The longest name, in bytes: the usual limit of file names.
pub const MAX_NAME_BYTES: usize = 255;
/// The most of an overlong name that is shown.
const SHOWN: usize = 40;

/// The exceeded limit.
#[derive(Debug, PartialEq, Eq)]
pub enum Excess {
    Drivers,
    Depth,
    /// The beginning of the name, and its length.
    Name(String, usize),
}

/// Checks whether a device with `count` drivers may have another one of that name, `depth` levels
/// below its root.
pub fn admit(name: &str, depth: usize, count: usize) -> Result<(), Excess> {
    if count >= MAX_DRIVERS {
        return Err(Excess::Drivers);
    }
    if depth > MAX_DEPTH {
        return Err(Excess::Depth);
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(Excess::Name(name[..name.floor_char_boundary(SHOWN)].to_owned(), name.len()));
    }
    Ok(())
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drivers => write!(f, "the device has more than {MAX_DRIVERS} drivers"),
            Self::Depth => write!(f, "the device's tree is deeper than {MAX_DEPTH} levels"),
            Self::Name(beginning, length) => {
                write!(
                    f,
                    "a driver's name, `{beginning}…`, has {length} bytes; {MAX_NAME_BYTES} are the most"
                )
            }
        }
    }
}
