//! `j` and its companions against an exporter in a separate process: output and exit codes.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../support/inside.rs"]
mod inside;
#[path = "../support/lab.rs"]
mod lab;
#[path = "../support/terminal.rs"]
mod terminal;

mod asking;
mod calls;
mod completion;
mod dumps;
mod errors;
mod files;
mod flasher;
mod gpio;
mod hostile;
mod images;
mod killed;
mod machine;
mod machine_end;
mod machine_forever;
mod metrics;
mod network;
mod paths;
mod power;
mod screen;
mod scripts;
mod serial;
mod served;
mod serving;
mod shell;
mod slips;
mod ssh;
mod storage;
mod tree;
mod uboot;
mod unknown;
mod video;
