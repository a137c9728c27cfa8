//! Verbs of serial consoles.

mod console;
mod pipe;

use super::super::verb::Verb;

pub(super) static VERBS: &[Verb] = &[Verb::of::<console::StartConsole>(), Verb::of::<pipe::Pipe>()];
