//! The commands that every device has.

use super::call::{CallPath, StreamPath};
use super::completions::Completions;
use super::log::Log;
use super::outline::Tree;
use super::status::{Reset, Status};
use super::verb::Verb;

/// In the order of the help.
pub(crate) static ALL: &[Verb] = &[
    Verb::of::<Tree>(),
    Verb::of::<CallPath>(),
    Verb::of::<StreamPath>(),
    Verb::of::<Log>(),
    Verb::of::<Status>(),
    Verb::of::<Reset>(),
    Verb::of::<Completions>(),
];
