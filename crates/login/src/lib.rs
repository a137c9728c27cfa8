//! Logging in to a lab.
//!
//! - [`LoginHost`]: what the login service of a lab says about its controller and its provider.
//! - [`Provider`]: an OpenID provider, and the ways to get [`Tokens`] from it.
//! - [`renew`]: a client's token is renewed once, whatever number of programs uses its file.
//!
//! Nothing that a server says is believed: addresses must be `https` (or loopback), answers are
//! bounded, the issuer must be the one that was asked, and texts are made safe for terminals.
//!
//! ```no_run
//! use jumpstarter_login::{Provider, ProviderOptions};
//!
//! # async fn run() -> jumpstarter_driver_core::Result<()> {
//! let options = ProviderOptions::new("https://login.example/realms/lab");
//! let provider = Provider::discover(&options).await?;
//! let tokens = provider.by_device_code(|code| println!("{}: {}", code.url, code.text)).await?;
//! # drop(tokens);
//! # Ok(())
//! # }
//! ```

mod address;
mod browser;
mod callback;
mod device_code;
mod grant;
mod host;
mod provider;
mod renewal;
mod tokens;

pub use browser::BrowserLogin;
pub use device_code::DeviceCode;
pub use host::LoginHost;
pub use provider::{CONTROLLER_ISSUER, DEFAULT_CLIENT, Provider, ProviderOptions};
pub use renewal::{Renewed, renew, replace};
pub use tokens::Tokens;
