//! `jmp forward`: makes a device's network endpoint a local port, and prints how to connect.

mod advice;

use std::io::Write;
use std::path::PathBuf;

use jumpstarter_driver_core::{Error, Network};
use jumpstarter_driver_network::{ForwardStats, PortForward};
use jumpstarter_supervise::{Heeded, Signal};
use serde_json::json;

use crate::arguments::host_and_port;
use crate::environment::Environment;
use crate::fault::{Result, SUCCESS};
use crate::format::Format;
use crate::print;
use crate::serving::{Log, runtime};
use crate::target::{Found, Opened, Target};

/// Forward a local port to a network endpoint of a device, and print how to connect
///
/// Runs until Ctrl-C, and then prints a summary.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  jmp forward qemu.ssh                     in `jmp shell`, or with JUMPSTARTER_HOST
  jmp forward web 8080 --tls-grpc lab.example:1234
  jmp forward qemu.vnc --unix ./vnc.sock
  jmp forward qemu.dns 5353                an endpoint of UDP becomes a UDP port

JSON, one object a line: {\"address\", \"host\", \"port\", \"socket\", \"connect_with\"} when it listens (the last is null
if the service at the endpoint is unknown), and at its end
{\"connections\", \"active\", \"bytes_to_device\", \"bytes_from_device\", \"failures\", \"dropped_datagrams\",
\"last_error\"}.

Exit code: 0 after Ctrl-C or SIGTERM, 1 if the connection to the exporter is lost.")]
pub(crate) struct Arguments {
    /// Path of the network driver, such as qemu.ssh
    path: String,
    /// The port on this machine; 0 takes a free one
    #[arg(default_value_t = 0)]
    port: u16,
    /// The address to listen at; 0.0.0.0 opens the device to everyone who can reach this machine
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    bind: String,
    /// Listen at a Unix socket, for this user only, instead of a port
    #[arg(long, value_name = "PATH", conflicts_with_all = ["port", "bind"])]
    unix: Option<PathBuf>,
    /// Listen at a UDP port; it is chosen without this option if the endpoint's address says UDP
    #[arg(long, conflicts_with = "unix")]
    udp: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Format,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    log: Log,
}

pub(crate) fn run(arguments: &Arguments, log: &Log, environment: &Environment) -> Result<u8> {
    let found = arguments.target.find(environment, &mut environment.err())?;
    arguments.log.install_quietly(log)?;
    runtime()?.block_on(forward(arguments, found, &mut environment.out()))
}

async fn forward(arguments: &Arguments, found: Found, out: &mut dyn Write) -> Result<u8> {
    // From here on a signal closes what was opened.
    let ended = ended()?;
    tokio::pin!(ended);
    let opened = tokio::select! {
        opened = found.open() => opened?,
        () = &mut ended => {
            return Err(Error::cancelled("ended while the device was opened").into());
        }
    };
    let outcome = serve(arguments, &opened, ended, out).await;
    let closed = opened.device.close().await;
    outcome.and_then(|()| Ok(closed.map(|()| SUCCESS)?))
}

/// Listens and forwards until `ended`.
async fn serve(
    arguments: &Arguments,
    opened: &Opened,
    ended: impl Future<Output = ()>,
    out: &mut dyn Write,
) -> Result<()> {
    let (device, path) = (&opened.device, arguments.path.as_str());
    let network = device.get::<dyn Network>(path)?;
    let place = || host_and_port(&arguments.bind, arguments.port);
    let forward = match &arguments.unix {
        Some(socket) => PortForward::unix(network, socket).await?,
        None if arguments.udp => PortForward::udp(network).bind(place()).await?,
        None => PortForward::matching(network).bind(place()).await?,
    };
    let advice = advice::of(device, path, &forward).await;
    match arguments.output {
        Format::Json => {
            let address = forward.tcp_address().or(forward.udp_address());
            let listening = json!({
                "address": forward.address(),
                "host": address.map(|address| address.ip().to_string()),
                "port": address.map(|address| address.port()),
                "socket": forward.path(),
                "connect_with": advice,
            });
            writeln!(out, "{}", print::json(&listening)?)?;
        }
        Format::Text => {
            let kind = if forward.udp_address().is_some() { "UDP " } else { "" };
            writeln!(out, "`{path}` is at {kind}{}; Ctrl-C ends it", forward.address())?;
            if let Some(advice) = advice {
                writeln!(out, "connect with: {advice}")?;
            }
        }
    }
    out.flush()?;
    let lost = tokio::select! {
        () = ended => Ok(()),
        error = opened.lost() => Err(error),
    };
    let stats = forward.stats();
    forward.stop().await;
    match arguments.output {
        Format::Json => writeln!(out, "{}", print::json(&stats)?)?,
        Format::Text => writeln!(out, "{}", summary(&stats))?,
    }
    Ok(lost?)
}

/// Returns a future that completes at the first signal that ends programs.
fn ended() -> Result<impl Future<Output = ()>> {
    let [mut interrupt, mut terminate, mut hang_up] =
        [Heeded::new(Signal::INT)?, Heeded::new(Signal::TERM)?, Heeded::new(Signal::HUP)?];
    Ok(async move {
        tokio::select! {
            () = interrupt.recv() => {}
            () = terminate.recv() => {}
            () = hang_up.recv() => {}
        }
    })
}

fn summary(stats: &ForwardStats) -> String {
    let mut text = format!(
        "connections: {}, {} bytes to the device, {} from it, failed: {}",
        stats.connections, stats.bytes_to_device, stats.bytes_from_device, stats.failures
    );
    if stats.dropped_datagrams > 0 {
        text += &format!(", datagrams dropped: {}", stats.dropped_datagrams);
    }
    if let Some(error) = &stats.last_error {
        for line in format!("the last failure: {error}").lines() {
            text += &format!("\n{}", print::line(line));
        }
    }
    text
}
