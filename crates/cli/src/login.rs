//! `jmp login`: a client, or an exporter, gets its token from the lab's OpenID provider.

mod account;
mod again;
mod exporter_file;
mod grant;

use std::io::Write;
use std::path::PathBuf;

use jumpstarter_config::{ClientDrivers, TokenClaims};
use jumpstarter_driver_core::{Error, ResultExt};
use jumpstarter_login::{CONTROLLER_ISSUER, LoginHost, Provider, ProviderOptions};

use crate::environment::Environment;
use crate::fault::{Fault, Result, SUCCESS};
use crate::print;
use crate::serving::{Log, runtime};
use crate::terminal::{self, Echo};
use account::Account;
pub(crate) use again::again;
use grant::Grant;

/// Log in to a lab: get a token from its OpenID provider, and store it for the other commands
///
/// LOGIN is the lab's login service, which says where the controller and the provider are; without
/// one, --endpoint, --namespace and --issuer do. A client that exists gets a new token, and keeps
/// its settings. The client becomes the current one. What is missing is asked for on a terminal.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  jmp login me@login.lab.example
  jmp login                                    renews the current client's token
  jmp login me@login.lab.example --device-flow           on a machine without a browser
  jmp login --client ci --endpoint controller.example:443 --namespace lab --name ci \\
      --issuer https://id.example --username ci --password-file secret
  jmp login --client ci --connector-id ci --token-file id-token.txt
  jmp login --exporter board-1 login.lab.example --name board-1

Without --token or --username, a stored refresh token is used if there is one; else a browser opens, or with
--device-flow a code is shown for a browser elsewhere. The browser comes back to a port of 127.0.0.1.
`jmp auth status` shows the token's expiry. `jmp shell` renews it while it runs.")]
pub(crate) struct Arguments {
    /// The lab's login service, after the client's name: me@login.lab.example
    #[arg(value_name = "LOGIN")]
    login: Option<String>,
    #[command(flatten)]
    whose: Whose,
    /// The address of the controller
    #[arg(short, long, value_name = "HOST:PORT")]
    endpoint: Option<String>,
    /// The namespace on the controller
    #[arg(long)]
    namespace: Option<String>,
    /// The name in that namespace; an empty one leaves it to the controller
    #[arg(long)]
    name: Option<String>,
    /// The address of the OpenID provider
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// The name of this program at the provider [default: jumpstarter-cli]
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    #[command(flatten)]
    grant: Grant,
    /// Ask for a refresh token, which renews the token; this is the default
    #[arg(long, overrides_with = "no_offline_access")]
    offline_access: bool,
    /// Ask for no refresh token
    #[arg(long)]
    no_offline_access: bool,
    /// Packages whose Python client classes may be loaded, with commas between them
    #[arg(long, value_name = "PACKAGES", value_delimiter = ',')]
    allow: Vec<String>,
    /// Let the Python client classes of all packages be loaded
    #[arg(long)]
    r#unsafe: bool,
    /// Accept any certificate, and a login service or provider without TLS; asks whether to go on,
    /// unless --nointeractive is given
    #[arg(short = 'k', long)]
    insecure_tls: bool,
    /// Ask nothing, also on a terminal
    #[arg(long)]
    nointeractive: bool,
    #[command(flatten)]
    log: Log,
}

/// The options that name what gets the token.
#[derive(Debug, Default, clap::Args)]
#[group(multiple = false)]
struct Whose {
    /// Log in as the client with this alias [default: that before the `@`, else the current one]
    #[arg(long, value_name = "ALIAS")]
    client: Option<String>,
    /// Log in as the client of this file
    #[arg(long, value_name = "FILE")]
    client_config: Option<PathBuf>,
    /// Log in as the exporter with this alias
    #[arg(long, value_name = "ALIAS")]
    exporter: Option<String>,
    /// Log in as the exporter of this file
    #[arg(long, value_name = "FILE")]
    exporter_config: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments, log: &Log, environment: &Environment) -> Result<u8> {
    arguments.log.install_quietly(log)?;
    runtime()?.block_on(arguments.run(environment))
}

impl Arguments {
    fn asks(&self) -> bool {
        !self.nointeractive && terminal::is_interactive()
    }

    async fn run(&self, environment: &Environment) -> Result<u8> {
        let err = &mut environment.err();
        if self.insecure_tls {
            terminal::confirm_insecure_tls(self.nointeractive, err)?;
        }
        let (name, host) = self.login.as_deref().map(split).transpose()?.unwrap_or_default();
        let mut account = Account::find(&self.whose, name)?;
        if account.is_exporter() && (!self.allow.is_empty() || self.r#unsafe) {
            writeln!(
                err,
                "warning: --allow and --unsafe are for clients, and have no effect here"
            )?;
        }
        let host = match host {
            Some(host) => {
                writeln!(err, "Fetching configuration from {}...", print::line(host))?;
                Some(LoginHost::ask(host, self.insecure_tls).await?)
            }
            None => None,
        };
        self.settle(&mut account, name, host.as_ref(), environment)?;
        let options = self.provider(&account, host.as_ref(), err)?;
        // Before the user logs in for nothing.
        account.check()?;
        if self.grant.is_renewal() && account.can_renew(&options) {
            match account.renew().await {
                Ok(()) => {
                    account.save()?;
                    self.conclude(&account, environment)?;
                    return Ok(SUCCESS);
                }
                Err(error) if self.nointeractive => {
                    return Err(error.context("renewing the token").into());
                }
                Err(error) => {
                    let why = print::line(&format!("{error:#}")).into_owned();
                    writeln!(err, "note: the token was not renewed ({why}); log in again")?;
                }
            }
        }
        let provider = Provider::discover(&options).await?;
        let tokens = self.grant.tokens(&provider, self.asks(), environment).await?;
        if TokenClaims::read(&tokens.access).is_none() {
            writeln!(
                err,
                "warning: the token is no JSON Web Token: the controller may not accept it"
            )?;
        }
        let is_wanted = !self.no_offline_access && !account.is_exporter();
        if is_wanted && tokens.refresh.is_none() {
            writeln!(err, "note: the provider gave no refresh token: log in again at its expiry")?;
        }
        account.set(tokens);
        account.save()?;
        self.conclude(&account, environment)?;
        Ok(SUCCESS)
    }

    /// Says what was done.
    fn conclude(&self, account: &Account, environment: &Environment) -> Result<()> {
        let out = &mut environment.out();
        writeln!(out, "logged in: {}", account.path()?.display())?;
        if let Some(alias) = account.make_current()? {
            writeln!(out, "Set '{alias}' as the default client.")?;
        }
        Ok(())
    }

    /// Decides the settings: options, what the account has, the login service, the environment,
    /// questions.
    fn settle(
        &self,
        account: &mut Account,
        name: Option<&str>,
        host: Option<&LoginHost>,
        environment: &Environment,
    ) -> Result<()> {
        let variable = |name: &str| environment.variable(name)?.into_string().ok();
        let had = account.endpoint().map(str::to_owned);
        if let (Some(host), Some(had)) = (host, &had)
            && self.endpoint.is_none()
            && had != &host.endpoint
        {
            let (had, endpoint) = (print::line(had), print::line(&host.endpoint));
            let message = format!(
                "{} is of the controller {had}, and the login service names {endpoint}",
                account.description()
            );
            return Err(Fault::usage(
                message,
                "name another client before the `@`, or with --client; or give --endpoint",
            ));
        }
        let of_host = |value: fn(&LoginHost) -> Option<String>| host.and_then(value);
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let mut wanted = [
            (
                "--namespace",
                "Namespace on the controller",
                filled(&self.namespace)
                    .or_else(|| account.namespace().map(str::to_owned))
                    .or_else(|| of_host(|host| host.namespace.clone()))
                    .or_else(|| variable("JMP_NAMESPACE")),
            ),
            (
                "--name",
                "Name in that namespace",
                self.name
                    .clone()
                    .or_else(|| account.name().map(str::to_owned))
                    .or_else(|| name.map(str::to_owned))
                    .or_else(|| variable("JMP_NAME")),
            ),
            (
                "--endpoint",
                "Controller (HOST:PORT)",
                filled(&self.endpoint)
                    .or(had)
                    .or_else(|| of_host(|host| Some(host.endpoint.clone())))
                    .or_else(|| variable("JMP_ENDPOINT")),
            ),
        ];
        self.complete(&mut wanted, &mut environment.err())?;
        let [namespace, name, endpoint] = wanted.map(|field| field.2.unwrap_or_default());
        endpoint.parse::<jumpstarter_controller::Endpoint>()?;
        account.settle(namespace, name, endpoint);
        if let Some(authorities) = host.and_then(|host| host.authorities.as_deref()) {
            jumpstarter_controller::Trust::of_settings(authorities, false)
                .context("the certificate authorities of the login service")?;
            account.set_authorities(authorities);
        }
        if self.insecure_tls {
            account.set_insecure();
        }
        let packages: Vec<String> =
            self.allow.iter().filter(|package| !package.is_empty()).cloned().collect();
        let allows_all = self.r#unsafe || packages.iter().any(|it| it == ClientDrivers::ALL);
        account.allow(packages, allows_all);
        Ok(())
    }

    /// Asks for what is missing, or reports it.
    fn complete(
        &self,
        wanted: &mut [(&str, &str, Option<String>)],
        err: &mut dyn Write,
    ) -> Result<()> {
        let missing: Vec<&str> = wanted.iter().filter(|it| it.2.is_none()).map(|it| it.0).collect();
        if !missing.is_empty() && !self.asks() {
            let message = format!("missing: {}", missing.join(", "));
            let hint = "give them, or the lab's login service: `jmp login me@login.lab.example`";
            return Err(Fault::usage(message, hint));
        }
        for (_, question, value) in wanted {
            while value.is_none() {
                let answer = terminal::ask(question, Echo::Shown, err)?;
                *value = Some(answer).filter(|text| !text.is_empty());
            }
        }
        Ok(())
    }

    /// The provider: of the option, of the login service, of the token, or asked for.
    fn provider(
        &self,
        account: &Account,
        host: Option<&LoginHost>,
        err: &mut dyn Write,
    ) -> Result<ProviderOptions> {
        let claims = account.token().and_then(TokenClaims::read).unwrap_or_default();
        let of_token = claims.issuer.clone().filter(|issuer| issuer != CONTROLLER_ISSUER);
        let issuer = self.issuer.clone().filter(|issuer| !issuer.is_empty());
        let issuer = issuer.or_else(|| host?.issuer.clone()).or_else(|| of_token.clone());
        let mut wanted = [("--issuer", "OpenID provider (URL)", issuer)];
        if let [(_, _, None)] = wanted {
            if host.is_some() {
                let message = "the login service names no OpenID provider: this controller only knows its own tokens";
                return Err(Error::failed_precondition(message)
                    .with_hint("ask who runs the lab for a token, and run `jmp config client create`; or name --issuer")
                    .into());
            }
            if claims.issuer.as_deref() == Some(CONTROLLER_ISSUER) && !self.asks() {
                let message = format!(
                    "the token of {} is the controller's own, which no login renews",
                    account.description()
                );
                return Err(Error::failed_precondition(message)
                    .with_hint("`jmp auth rotate` renews it; --issuer names an OpenID provider")
                    .into());
            }
        }
        self.complete(&mut wanted, err)?;
        let [(_, _, issuer)] = wanted;
        let issuer = issuer.unwrap_or_default();
        let of_claims = claims.client.filter(|_| of_token.as_ref() == Some(&issuer));
        let client = self.client_id.clone().or_else(|| host?.client.clone()).or(of_claims);
        let options = ProviderOptions::new(issuer)
            .offline_access(!self.no_offline_access && !account.is_exporter())
            .trust_any(self.insecure_tls);
        Ok(match client {
            Some(client) => options.client(client),
            None => options,
        })
    }
}

/// The client's name and the login service of a LOGIN.
fn split(login: &str) -> Result<(Option<&str>, Option<&str>)> {
    let (name, host) = match login.trim().rsplit_once('@') {
        Some((name, host)) => (Some(name.trim()), host.trim()),
        None => (None, login.trim()),
    };
    if host.is_empty() || name.is_some_and(str::is_empty) {
        return Err(Fault::usage(
            format!("`{login}` is no login service"),
            "write it as NAME@HOST or HOST, such as me@login.lab.example",
        ));
    }
    Ok((name, Some(host)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_a_name_and_a_host() {
        for (login, expected) in [
            ("login.example", (None, Some("login.example"))),
            (" me@login.example ", (Some("me"), Some("login.example"))),
            ("me@lab@http://127.0.0.1:1", (Some("me@lab"), Some("http://127.0.0.1:1"))),
        ] {
            assert_eq!(split(login).unwrap(), expected, "{login}");
        }
        for wrong in ["", " ", "@login.example", "me@"] {
            assert_eq!(split(wrong).unwrap_err().code(), crate::fault::USAGE, "{wrong}");
        }
    }
}
