//! What is known about the guests that the demo can boot: how to log in, and what to ask them.

use std::time::Duration;

use clap::ValueEnum;
use jumpstarter_driver_testkit::pico;

/// A guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Guest {
    /// The guest of a few sectors that is built in; x86_64 only
    Pico,
    /// The tiny Linux of `cargo xtask guest`
    Tiny,
    /// Any other Linux whose cloud-init makes the configured user
    Other,
}

/// Something to type at the prompt, and a regular expression for the line that answers it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    pub(crate) command: &'static str,
    pub(crate) answer: &'static str,
}

impl Guest {
    /// The end of the prompt of a user that has logged in.
    pub(crate) fn prompt(self) -> &'static str {
        match self {
            Self::Pico => pico::PROMPT,
            Self::Tiny | Self::Other => "$ ",
        }
    }

    /// How long it may take from power-on to the login, on a slow machine without hardware
    /// virtualisation.
    pub(crate) fn boots_within(self) -> Duration {
        match self {
            Self::Pico => Duration::from_secs(60),
            Self::Tiny => Duration::from_secs(300),
            Self::Other => Duration::from_secs(900),
        }
    }

    /// The sign that a shell answers. The answer is not part of the command, which the guest
    /// echoes.
    pub(crate) fn question(self) -> Question {
        match self {
            Self::Pico => Question { command: pico::command::MEMORY, answer: r"mem (\d+ MiB)\r" },
            Self::Tiny | Self::Other => Question {
                command: "echo $(uname -sr) on $(hostname) $((6*7))",
                answer: r"([^\r\n]+) 42\r",
            },
        }
    }

    /// Whether it serves a page on port 80 that names the host.
    pub(crate) fn serves_a_page(self) -> bool {
        self == Self::Tiny
    }
}
