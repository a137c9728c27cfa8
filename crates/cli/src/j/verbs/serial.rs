//! Verbs of serial consoles.

mod console;
mod pipe;
mod rfc2217;
mod script;
mod shell;

use super::super::verb::Verb;

pub(super) use console::{attend, require_terminal};

pub(super) static VERBS: &[Verb] = &[
    Verb::of::<console::StartConsole>(),
    Verb::of::<pipe::Pipe>(),
    Verb::of::<rfc2217::ServeRfc2217>(),
    Verb::of::<script::RunScript>(),
    Verb::of::<shell::Run>(),
    Verb::of::<shell::Put>(),
    Verb::of::<shell::Get>(),
];
