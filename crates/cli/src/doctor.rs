//! `jmp doctor`: tries the way to a controller step by step.

use std::io::Write;
use std::path::PathBuf;
use std::time::SystemTime;

use jumpstarter_client::lab::Lab;
use jumpstarter_config::{ExporterConfig, TokenClaims};
use jumpstarter_controller::{Controller, Endpoint, Probe, compare_clocks};
use jumpstarter_driver_core::{Error, Result as Checked, Secret, rfc3339};
use serde_json::{Value, json};

use crate::environment::Environment;
use crate::fault::{FAILURE, Fault, Result, SUCCESS};
use crate::format::Format;
use crate::lab::Who;
use crate::{print, runtime, serving};

/// Find out why an exporter or a client does not reach its controller
///
/// Each step says what it saw, or what is wrong and what to do: the name, TCP, TLS and the trust in
/// the certificate, the token, the controller, its router, and the clock. Nothing is changed, and
/// no device is opened.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  jmp doctor --lab board.yaml
  jmp doctor --lab --exporter board-1
  jmp doctor --lab --client me --router router.example:8083

A controller names its router only with a tunnel: --router names it here.

Exit code: 0 if every step went well, 1 if one failed, 2 for a wrong command line.")]
pub(crate) struct Arguments {
    /// Try the connection to a controller
    #[arg(long, required = true)]
    lab: bool,
    /// The exporter file that names the controller; without one it is a client's file
    #[arg(value_name = "FILE", conflicts_with_all = ["exporter", "client", "client_config"])]
    file: Option<PathBuf>,
    /// The alias of an exporter file
    #[arg(long, value_name = "ALIAS", conflicts_with_all = ["client", "client_config"])]
    exporter: Option<String>,
    #[command(flatten)]
    who: Who,
    /// The endpoint of the controller's router, to be tried as well
    #[arg(long, value_name = "HOST:PORT")]
    router: Option<Endpoint>,
    /// How to print the result
    #[arg(long, short, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Format,
}

/// What came of a step.
enum Outcome {
    Fine(String),
    Wrong(Error),
    /// It was not tried, and why.
    Skipped(&'static str),
}

/// A step after one that failed is not tried.
const AFTER_A_FAILURE: Outcome = Outcome::Skipped("not tried: an earlier step failed");

/// The steps so far.
#[derive(Default)]
struct Steps(Vec<(&'static str, Outcome)>);

impl Steps {
    fn add(&mut self, name: &'static str, outcome: Checked<String>) {
        self.0.push((name, outcome.map_or_else(Outcome::Wrong, Outcome::Fine)));
    }

    /// Tries a step if nothing has failed before.
    async fn then(&mut self, name: &'static str, step: impl Future<Output = Checked<String>>) {
        match self.has_failed() {
            true => self.0.push((name, AFTER_A_FAILURE)),
            false => self.add(name, step.await),
        }
    }

    fn has_failed(&self) -> bool {
        self.0.iter().any(|(_, outcome)| matches!(outcome, Outcome::Wrong(_)))
    }

    /// The name, TCP and TLS of a server. Later steps do not depend on them.
    async fn of_server(names: [&'static str; 3], probe: &Probe) -> Self {
        let mut steps = Self::default();
        steps.then(names[0], probe.name()).await;
        steps.then(names[1], probe.tcp()).await;
        steps.then(names[2], probe.tls()).await;
        steps
    }
}

pub(crate) fn run(arguments: &Arguments, environment: &Environment) -> Result<u8> {
    let (controller, token) = controller(arguments, environment)?;
    let steps = runtime::multi()?.block_on(examine(&controller, &token, arguments));
    show(&steps, arguments.output, &mut environment.out())?;
    Ok(if steps.has_failed() { FAILURE } else { SUCCESS })
}

/// The controller that the file names, and the token.
fn controller(arguments: &Arguments, environment: &Environment) -> Result<(Controller, Secret)> {
    let file = match &arguments.exporter {
        Some(alias) => Some(ExporterConfig::find(alias)?),
        None => arguments.file.clone(),
    };
    let controller = match file {
        Some(file) => {
            let config = serving::load(&file, &mut environment.err())?;
            if config.settings.endpoint.is_none() {
                return Err(Fault::Failed(
                    Error::invalid_argument("the exporter file has no `endpoint`")
                        .with_hint("write `endpoint: HOST:PORT` and `token` to join a controller"),
                ));
            }
            jumpstarter_daemon::controller_of(&config.settings)?
        }
        None => {
            let config = arguments.who.config(environment)?;
            Lab::of_client(&config)?.controller().clone()
        }
    };
    let token = controller.identity().token();
    Ok((controller, token))
}

async fn examine(controller: &Controller, token: &Secret, arguments: &Arguments) -> Steps {
    let probe = controller.probe();
    let mut steps = Steps::of_server(["name", "TCP", "TLS"], &probe).await;
    let is_reached = !steps.has_failed();
    // It is read here, so it can be judged without the controller.
    steps.add("token", token_says(token, SystemTime::now()));
    let mut time = None;
    if is_reached {
        match probe.health().await {
            Ok((saw, there)) => {
                time = there.map(|there| compare_clocks(SystemTime::now(), there));
                let accepts = probe.identity().await;
                steps.add("controller", accepts.map(|accepts| format!("{saw}; {accepts}")));
            }
            Err(error) => steps.add("controller", Err(error)),
        }
    } else {
        steps.0.push(("controller", AFTER_A_FAILURE));
    }
    match &arguments.router {
        Some(router) => {
            let probe = controller.probe_at(router.clone());
            let names = ["router's name", "router's TCP", "router's TLS"];
            let mut of_router = Steps::of_server(names, &probe).await;
            of_router.then("router", probe.router()).await;
            steps.0.extend(of_router.0);
        }
        None => steps.0.push(("router", Outcome::Skipped("not tried: name it with --router"))),
    }
    match time {
        Some(compared) => steps.add("clock", compared),
        None => steps
            .0
            .push(("clock", Outcome::Skipped("not compared: the controller did not say the time"))),
    }
    steps
}

/// What the token says about itself.
fn token_says(token: &Secret, now: SystemTime) -> Checked<String> {
    if token.expose().trim().is_empty() {
        return Err(Error::unauthenticated("the token is empty")
            .with_hint("write the token that who runs the lab gave for it"));
    }
    let Some(claims) = TokenClaims::read(token) else {
        return Ok("it is no JSON Web Token, so its expiry is unknown".to_owned());
    };
    let subject = claims.subject.map(|subject| format!("for {subject}, ")).unwrap_or_default();
    match claims.expires {
        Some(expires) if expires <= now => {
            Err(Error::unauthenticated(format!("the token has expired at {}", rfc3339(expires)))
                .with_hint(
                    "a client runs `jmp login`; an exporter gets a new one from who runs the lab",
                ))
        }
        Some(expires) => Ok(format!("{subject}valid until {}", rfc3339(expires))),
        None => Ok(format!("{subject}without an expiry")),
    }
}

fn show(steps: &Steps, format: Format, out: &mut dyn Write) -> Result<()> {
    if format == Format::Json {
        let steps: Vec<Value> = steps.0.iter().map(as_json).collect();
        return Ok(writeln!(out, "{}", print::pretty_json(&steps)?)?);
    }
    for (name, outcome) in &steps.0 {
        match outcome {
            Outcome::Fine(saw) => writeln!(out, "ok      {name}: {}", print::line(saw))?,
            Outcome::Skipped(why) => writeln!(out, "skipped {name}: {why}")?,
            Outcome::Wrong(error) => {
                writeln!(out, "WRONG   {name}: {}", print::line(&format!("{error:#}")))?;
                if let Some(hint) = error.hint() {
                    writeln!(out, "        hint: {}", print::line(hint))?;
                }
            }
        }
    }
    Ok(())
}

fn as_json((name, outcome): &(&str, Outcome)) -> Value {
    match outcome {
        Outcome::Fine(saw) => json!({"step": name, "outcome": "ok", "saw": saw}),
        Outcome::Skipped(why) => json!({"step": name, "outcome": "skipped", "saw": why}),
        Outcome::Wrong(error) => json!({
            "step": name, "outcome": "wrong", "error": format!("{error:#}"), "hint": error.hint(),
        }),
    }
}
