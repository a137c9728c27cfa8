//! The way to a token: a token, a password, a code or a browser.

use std::io::{self, Write};

use jumpstarter_driver_core::{Error, Result as CoreResult, Secret};
use jumpstarter_login::{Provider, Tokens};

use crate::config::read_secret;
use crate::environment::Environment;
use crate::fault::{Fault, Result};
use crate::open::open_page;
use crate::terminal::{self, Echo};

/// The options that choose the way to a token.
#[derive(Debug, clap::Args)]
pub(super) struct Grant {
    /// A token of another issuer, to exchange; other users of this machine can see it in the
    /// process list
    #[arg(long, conflicts_with_all = ["token_file", "username", "device_flow"])]
    token: Option<String>,
    /// Read the token to exchange from this file; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["username", "device_flow"])]
    token_file: Option<String>,
    /// What the provider (Dex) calls the issuer of the token
    #[arg(long, value_name = "ID")]
    connector_id: Option<String>,
    /// The user; the password is asked for, or comes from $JMP_OIDC_PASSWORD
    #[arg(long, conflicts_with = "device_flow")]
    username: Option<String>,
    /// The user's password; other users of this machine can see it in the process list
    #[arg(long, requires = "username", conflicts_with = "password_file")]
    password: Option<String>,
    /// Read the password from this file; `-` is standard input
    #[arg(long, value_name = "FILE", requires = "username")]
    password_file: Option<String>,
    /// Show a code for a browser on any device; $JMP_OIDC_DEVICE_FLOW=1 does so, too
    #[arg(long)]
    device_flow: bool,
    /// The port of 127.0.0.1 to which the browser comes back; 0 is any free one
    /// [default: $JMP_OIDC_CALLBACK_PORT, else 0]
    #[arg(long, value_name = "PORT")]
    callback_port: Option<u16>,
}

impl Grant {
    /// Whether a stored refresh token may be used: nothing says otherwise.
    pub(super) fn is_renewal(&self) -> bool {
        self.token.is_none()
            && self.token_file.is_none()
            && self.username.is_none()
            && !self.device_flow
    }

    /// Logs in.
    pub(super) async fn tokens(
        &self,
        provider: &Provider,
        asks: bool,
        environment: &Environment,
    ) -> Result<Tokens> {
        if let Some(token) = given(&self.token, &self.token_file)? {
            return Ok(provider.by_exchange(&token, self.connector_id.as_deref()).await?);
        }
        if let Some(user) = &self.username {
            let password = self.password(asks, environment)?;
            return Ok(provider.by_password(user, &password).await?);
        }
        let show = |text: &str| environment.print(text);
        if self.device_flow || is_device_flow(environment) {
            return Ok(by_device_code(provider, show).await?);
        }
        let port = self.callback_port.map_or_else(|| port(environment), Ok)?;
        Ok(by_browser(provider, port, show, environment).await?)
    }

    fn password(&self, asks: bool, environment: &Environment) -> Result<Secret> {
        if let Some(password) = given(&self.password, &self.password_file)? {
            return Ok(password);
        }
        if let Some(value) = environment.variable("JMP_OIDC_PASSWORD") {
            let wrong = |_| Error::invalid_argument("JMP_OIDC_PASSWORD is not text");
            return Ok(Secret::new(value.into_string().map_err(wrong)?));
        }
        if !asks {
            let hint = "give --password-file FILE, or set JMP_OIDC_PASSWORD";
            return Err(Fault::usage("missing: the password", hint));
        }
        let err: &mut dyn Write = &mut environment.err();
        Ok(Secret::new(terminal::ask("Password (not shown)", Echo::Hidden, err)?))
    }
}

/// Whether the environment wants a code for a browser on any device.
pub(super) fn is_device_flow(environment: &Environment) -> bool {
    environment.variable("JMP_OIDC_DEVICE_FLOW").is_some_and(|value| value == "1")
}

/// The port for the browser that the environment wants; 0 is any free one.
pub(super) fn port(environment: &Environment) -> CoreResult<u16> {
    const NAME: &str = "JMP_OIDC_CALLBACK_PORT";
    let Some(value) = environment.variable(NAME) else { return Ok(0) };
    let port = value.to_str().and_then(|port| port.parse().ok());
    port.ok_or_else(|| Error::invalid_argument(format!("{NAME} is no port")))
}

/// Logs in with a browser on this machine. `show` gets what the user must know.
pub(super) async fn by_browser(
    provider: &Provider,
    port: u16,
    show: impl FnOnce(&str) -> io::Result<()>,
    environment: &Environment,
) -> CoreResult<Tokens> {
    let login = provider.browser_login(port).await?;
    show(&format!("Please open the URL in browser:  {}", login.url()))?;
    let browser = open_page(environment, login.url()).await.unwrap_or_else(|error| {
        environment.report(format_args!("note: no browser was opened: {error}"));
        None
    });
    environment.report(
        "waiting for the login; Ctrl-C gives up, and `jmp login --device-flow` needs no browser here",
    );
    let tokens = login.finish().await;
    drop(browser);
    tokens
}

/// Logs in with a browser on any device. `show` gets what the user must know.
pub(super) async fn by_device_code(
    provider: &Provider,
    show: impl FnOnce(&str) -> io::Result<()>,
) -> CoreResult<Tokens> {
    let mut shown = Ok(());
    let tokens = provider.by_device_code(|code| {
        let url = code.whole_url.as_deref().unwrap_or(&code.url);
        let minutes = code.life.as_secs().div_ceil(60);
        shown = show(&format!(
            "Please open the URL in browser:  {url}\nCode: {}\nwaiting for the login, for {minutes} minutes",
            crate::print::line(&code.text)
        ));
    });
    let tokens = tokens.await?;
    shown?;
    Ok(tokens)
}

/// A secret of an option, or of a file that an option names.
fn given(text: &Option<String>, file: &Option<String>) -> Result<Option<Secret>> {
    match file {
        Some(file) => read_secret(file).map(Some),
        None => Ok(text.clone().map(Secret::new)),
    }
}
