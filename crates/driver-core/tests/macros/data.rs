//! A type that cannot travel.

use jumpstarter_driver_core::ValueType;

/// A colour.
pub struct Colour;

/// What `#[interface]` writes for an argument and for a result.
pub const COLOUR: ValueType = ValueType::of::<Colour>();

fn main() {}
