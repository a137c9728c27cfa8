//! How large a device may be, here and elsewhere: far more than any has, far less than what a
//! program can hold.

use std::fmt;

/// The most drivers, proxies followed.
pub const MAX_DRIVERS: usize = 10_000;
/// The most levels below the root, proxies followed. The JSON of a tree has twice as many, and many
/// readers of JSON stop at 128.
pub const MAX_DEPTH: usize = 60;
/// The longest name in bytes: as of a file.
pub const MAX_NAME_BYTES: usize = 255;
/// How much of a name that is too long is shown.
const SHOWN: usize = 40;

/// What a device has too much of.
#[derive(Debug, PartialEq, Eq)]
pub enum Excess {
    Drivers,
    Depth,
    /// The beginning of the name, and its length.
    Name(String, usize),
}

/// Whether a device that has `count` drivers may have one more of that name, so many levels below
/// its root.
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
