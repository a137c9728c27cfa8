//! End to end tests: see the folder beside this file. The README's example is compiled here.
#![doc = ""]
#![doc = include_str!("../../README.md")]

mod book;
pub mod interrupt;
pub mod page;
pub mod pairs;
pub mod python_client;
pub mod python_exporter;
