//! `test-controller`: the controller of the tests as a program, for peers in other languages and
//! for people.
#![expect(clippy::print_stdout, reason = "a program")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use jumpstarter_test_controller::proto::v1::ExporterStatus;
use jumpstarter_test_controller::{Answer, Options, Rule, TestController};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tonic::{Code, Status};

const SWITCHES: &str = "\
One line on standard input is one switch:
  outage SECONDS             the controller is away
  router-outage SECONDS      the router is away
  drop                       the controller closes its connections
  router-drop                the router closes its connections
  end-status [TEXT]          Status streams end well, or UNKNOWN with that text
  refuse METHOD TIMES        calls are answered UNAVAILABLE; METHOD may be `all`
  missing METHOD             the controller does not have the method
  clear                      no call is refused any more
  jump EXPORTER LEASE        the exporter's lease ends, and a waiting one gets it
  release LEASE              an administrator ends a lease
  client NAME [KEY=VALUE]…   makes a client
  exporter NAME [KEY=VALUE]… makes an exporter
  show                       prints the leases and the exporters
At its end, the program ends too, unless nothing can be read from the beginning.";

/// A Jumpstarter controller and router for tests: state in memory, certificates that they sign
/// themselves
#[derive(Debug, Parser)]
#[command(after_help = SWITCHES)]
struct Arguments {
    /// Where the controller listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where the router listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    router_listen: SocketAddr,
    /// The host of the endpoints that are given out, which the certificates name
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    host: String,
    /// The namespace of all objects
    #[arg(long, default_value = "lab")]
    namespace: String,
    /// Makes a client (repeatable)
    #[arg(long = "client", value_name = "NAME[,KEY=VALUE]…")]
    clients: Vec<String>,
    /// Makes an exporter with labels (repeatable)
    #[arg(long = "exporter", value_name = "NAME[,KEY=VALUE]…")]
    exporters: Vec<String>,
    /// Writes client-NAME.yaml, exporter-NAME.yaml and ca.pem there
    #[arg(long, value_name = "FOLDER")]
    files: Option<PathBuf>,
    /// What exporters export, in their files: YAML's flow style
    #[arg(long, value_name = "YAML", default_value = EXPORT)]
    export: String,
}

const EXPORT: &str = "{power: {type: jumpstarter_driver_power.driver.MockPower}}";

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let options = Options {
        namespace: arguments.namespace.clone(),
        listen: arguments.listen,
        router_listen: arguments.router_listen,
        host: arguments.host.clone(),
        ..Options::default()
    };
    let controller = TestController::start(options).await?;
    for words in &arguments.clients {
        add(&controller, &arguments, "client", words.split(','))?;
    }
    for words in &arguments.exporters {
        add(&controller, &arguments, "exporter", words.split(','))?;
    }
    if let Some(folder) = &arguments.files {
        write(folder, "ca.pem", &controller.ca_bundle())?;
    }
    let ready = json!({
        "endpoint": controller.endpoint(),
        "router": controller.router().endpoint(),
        "namespace": arguments.namespace,
        "ca": controller.ca_bundle(),
    });
    println!("{ready}");
    println!("ready");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut any = false;
    while let Some(line) = lines.next_line().await? {
        any = true;
        match switch(&controller, &arguments, &line).await {
            Ok(()) => println!("done"),
            Err(error) => println!("error: {error}"),
        }
    }
    // With nothing on standard input, as in the background, it serves until it is killed.
    if !any {
        std::future::pending::<()>().await;
    }
    Ok(())
}

/// Makes a client or an exporter, prints its token and writes its file.
fn add<'a>(
    controller: &TestController,
    arguments: &Arguments,
    kind: &str,
    mut words: impl Iterator<Item = &'a str>,
) -> std::io::Result<()> {
    let name = words.next().unwrap_or_default();
    let labels: Vec<(&str, &str)> = words.filter_map(|word| word.split_once('=')).collect();
    let (token, file) = if kind == "client" {
        let token = controller.add_client(name, &labels);
        let file = controller.client_file_with(name, &token);
        (token, file)
    } else {
        let token = controller.add_exporter(name, &labels);
        let file = controller.exporter_file_with(name, &token, &arguments.export);
        (token, file)
    };
    println!("{}", json!({kind: name, "token": token}));
    if let Some(folder) = &arguments.files {
        write(folder, &format!("{kind}-{name}.yaml"), &file)?;
    }
    Ok(())
}

fn write(folder: &Path, name: &str, text: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join(name), text)
}

/// Performs one line of standard input.
async fn switch(
    controller: &TestController,
    arguments: &Arguments,
    line: &str,
) -> Result<(), String> {
    let mut words = line.split_whitespace();
    let verb = words.next().unwrap_or_default();
    let rest: Vec<&str> = words.collect();
    let word = |index: usize| rest.get(index).copied().ok_or(format!("{verb}: a word is missing"));
    let seconds =
        || word(0)?.parse().map(Duration::from_secs_f64).map_err(|e| format!("{verb}: {e}"));
    match verb {
        "outage" => controller.controller().outage(seconds()?).await,
        "router-outage" => controller.router().outage(seconds()?).await,
        "drop" => controller.controller().drop_connections().await,
        "router-drop" => controller.router().drop_connections().await,
        "end-status" => {
            let error = (!rest.is_empty()).then(|| Status::unknown(rest.join(" ")));
            controller.end_status_streams(None, error.as_ref());
        }
        "refuse" => {
            let method = word(0)?.trim_start_matches("all");
            let times = word(1)?.parse().map_err(|error| format!("{verb}: {error}"))?;
            let answer = Answer::Refuse(Code::Unavailable, "the controller refuses".to_owned());
            controller.add_rule(Rule::new(method, answer).times(times));
        }
        "missing" => controller.add_rule(Rule::missing(word(0)?)),
        "clear" => controller.clear_rules(),
        "jump" => controller.jump(word(0)?, word(1)?),
        "release" => controller.release(word(0)?),
        "client" | "exporter" => {
            add(controller, arguments, verb, rest.iter().copied()).map_err(|e| e.to_string())?;
        }
        "show" => show(controller),
        other => return Err(format!("{other:?} is no switch: see --help")),
    }
    Ok(())
}

fn show(controller: &TestController) {
    for name in controller.exporters() {
        let status = controller.status_of(&name).unwrap_or(ExporterStatus::Unspecified);
        let lease = controller.lease_of(&name);
        println!("{}", json!({"exporter": name, "status": status.as_str_name(), "lease": lease}));
    }
    for name in controller.leases(true) {
        println!("{}", json!({"lease": name}));
    }
}
