//! Verbs of serial consoles.

mod console;
mod pipe;

use super::Verb;

pub(super) static VERBS: &[Verb] = &[
    Verb {
        name: "start-console",
        command: |command| {
            command
                .about("Connects this terminal to the console, until Ctrl-B is pressed three times")
                .after_help(
                    "Examples:\n  {path} start-console\n  jmp shell --exporter lab -- {path} start-console",
                )
        },
        run: |context, _| Box::pin(console::run(context)),
    },
    Verb {
        name: "pipe",
        command: pipe::command,
        run: |context, matches| Box::pin(pipe::run(context, matches)),
    },
];
