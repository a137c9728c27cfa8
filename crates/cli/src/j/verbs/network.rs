//! Verbs of network endpoints.

use std::path::PathBuf;

use clap::Args;
use indicatif::BinaryBytes;
use jumpstarter_driver_core::{Error, Network, ResultExt, blocking};
use jumpstarter_driver_network::PortForward;
use jumpstarter_files::RuntimeDir;
use serde_json::json;

use crate::arguments::host_and_port;
use crate::fault::{Result, SUCCESS};
use crate::j::context::Context;
use crate::j::verb::{Say, Verb};

pub(super) static VERBS: &[Verb] = &[
    Verb::of::<ForwardTcp>(),
    Verb::of::<ForwardUdp>(),
    Verb::of::<ForwardUnix>(),
    Verb::of::<Address>(),
];

const FORWARD_JSON: &str = "\
Prints the address once it listens. Ctrl-C ends it with a summary and exit code 0.

JSON: {\"address\", \"host\", \"port\", \"socket\"} when it listens; at its end {\"connections\", \"active\", \"bytes_to_device\", \"bytes_from_device\",
\"failures\", \"dropped_datagrams\", \"last_error\"}";

/// Makes the endpoint a TCP port of this machine
#[derive(Debug, Args)]
#[command(after_help = format!(
    "{FORWARD_JSON}\n\nExamples:\n  {{path}} forward-tcp 8080\n  {{path}} forward-tcp --address 0.0.0.0 8080"
))]
struct ForwardTcp {
    /// The address to listen at; 0.0.0.0 opens the device to everyone who can reach this machine
    #[arg(long, value_name = "HOST", default_value = "localhost")]
    address: String,
    /// The port; 0 takes a free one
    #[arg(default_value_t = 0)]
    port: u16,
}

impl Say for ForwardTcp {
    const NAME: &'static str = "forward-tcp";

    async fn run(self, context: &Context) -> Result<u8> {
        let network = context.get::<dyn Network>()?;
        let forward =
            PortForward::tcp(network).bind(host_and_port(&self.address, self.port)).await?;
        until_interrupted(context, forward).await
    }
}

/// Makes the endpoint, of datagrams, a UDP port of this machine
#[derive(Debug, Args)]
#[command(after_help = format!(
    "{FORWARD_JSON}\n\nExamples:\n  {{path}} forward-udp 5353\n  {{path}} forward-udp --address 0.0.0.0 5353"
))]
struct ForwardUdp {
    /// The address to listen at; 0.0.0.0 opens the device to everyone who can reach this machine
    #[arg(long, value_name = "HOST", default_value = "localhost")]
    address: String,
    /// The port; 0 takes a free one
    #[arg(default_value_t = 0)]
    port: u16,
}

impl Say for ForwardUdp {
    const NAME: &'static str = "forward-udp";

    async fn run(self, context: &Context) -> Result<u8> {
        let network = context.get::<dyn Network>()?;
        let forward =
            PortForward::udp(network).bind(host_and_port(&self.address, self.port)).await?;
        until_interrupted(context, forward).await
    }
}

/// Makes the endpoint a Unix socket of this machine, for this user only
#[derive(Debug, Args)]
#[command(after_help = format!(
    "{FORWARD_JSON}\n\nExamples:\n  {{path}} forward-unix\n  {{path}} forward-unix ./vnc.sock"
))]
struct ForwardUnix {
    /// The socket's path; without it, a new one in $XDG_RUNTIME_DIR
    #[arg(value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl Say for ForwardUnix {
    const NAME: &'static str = "forward-unix";

    async fn run(self, context: &Context) -> Result<u8> {
        // Removed with its contents at the end.
        let mut folder = None;
        let path = match self.socket {
            Some(path) => path,
            None => {
                let made = blocking(|| Ok(RuntimeDir::create_for_sockets("forward")?)).await;
                folder.insert(made.context("making a private folder for a socket")?).file("socket")
            }
        };
        let forward = PortForward::unix(context.get::<dyn Network>()?, path).await?;
        until_interrupted(context, forward).await
    }
}

/// Prints the endpoint's address, as the exporter's machine sees it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  {path} address
  ssh -p \"$({path} address --port)\" \"$({path} address --host)\"

JSON: {\"address\", \"host\", \"port\"}; the last two are null if the address has none")]
struct Address {
    /// Only the host
    #[arg(long)]
    host: bool,
    /// Only the port
    #[arg(long)]
    port: bool,
}

impl Say for Address {
    const NAME: &'static str = "address";

    async fn run(self, context: &Context) -> Result<u8> {
        let address = context.get::<dyn Network>()?.address().await?;
        let plain = address.split_once("://").map_or(address.as_str(), |(_, rest)| rest);
        let place = plain.split(['/', '?']).next().unwrap_or_default().rsplit_once(':');
        let host = place.map(|(host, _)| host.trim_start_matches('[').trim_end_matches(']'));
        let port = place.and_then(|(_, port)| port.parse::<u16>().ok());
        let value = json!({"address": address, "host": host, "port": port});
        let missing =
            |part: &str| Error::unimplemented(format!("the address {address} has no {part}"));
        let text = match (self.host, self.port) {
            (true, false) => host.ok_or_else(|| missing("host"))?.to_owned(),
            (false, true) => port.ok_or_else(|| missing("port"))?.to_string(),
            _ => plain.to_owned(),
        };
        context.output.answer(&value, text)?;
        Ok(SUCCESS)
    }
}

async fn until_interrupted(context: &Context, forward: PortForward) -> Result<u8> {
    let address = forward.tcp_address().or(forward.udp_address());
    let value = json!({
        "address": forward.address(),
        "host": address.map(|address| address.ip().to_string()),
        "port": address.map(|address| address.port()),
        "socket": forward.path(),
    });
    context.output.answer(&value, forward.address())?;
    context.interrupted().await;
    let stats = forward.stats();
    forward.stop().await;
    if context.output.is_json() {
        context.output.value(&serde_json::to_value(&stats)?)?;
        return Ok(SUCCESS);
    }
    context.output.note(format!(
        "{} connection(s), {} to the device, {} from it, {} failed",
        stats.connections,
        BinaryBytes(stats.bytes_to_device),
        BinaryBytes(stats.bytes_from_device),
        stats.failures,
    ));
    if stats.dropped_datagrams > 0 {
        context.output.note(format!("{} datagram(s) dropped", stats.dropped_datagrams));
    }
    if let Some(error) = &stats.last_error {
        context.output.note_lines(&format!("the last failure: {error}"));
    }
    Ok(SUCCESS)
}
