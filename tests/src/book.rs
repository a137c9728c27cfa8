//! Compiles and runs the examples of the book, one module for each page.

/// Tests that run anywhere.
#[doc = include_str!("../../docs/tests-anywhere.md")]
mod tests_anywhere {}

/// The chapters for authors of drivers.
mod author {
    #[doc = include_str!("../../docs/author/children.md")]
    mod children {}
    #[doc = include_str!("../../docs/author/configuration.md")]
    mod configuration {}
    #[doc = include_str!("../../docs/author/flashers.md")]
    mod flashers {}
    #[doc = include_str!("../../docs/author/interfaces.md")]
    mod interfaces {}
    #[doc = include_str!("../../docs/author/logging.md")]
    mod logging {}
    #[doc = include_str!("../../docs/author/own-program.md")]
    mod own_program {}
    #[doc = include_str!("../../docs/author/processes.md")]
    mod processes {}
    #[doc = include_str!("../../docs/author/secrets.md")]
    mod secrets {}
    #[doc = include_str!("../../docs/author/single-crates.md")]
    mod single_crates {}
    #[doc = include_str!("../../docs/author/tutorial.md")]
    mod tutorial {}
}
