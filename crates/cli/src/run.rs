//! `jmp run`: serves the device of an exporter file.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use jumpstarter_daemon::{Ready, RunOptions};
use jumpstarter_driver_core::{ByteSize, Error, ErrorKind, ResultExt, Secret, Span};
use jumpstarter_exporter::{Access, Address, Limits, TlsOptions};
use jumpstarter_text::Line;

use crate::fault::{Fault, Result, SUCCESS};
use crate::serving::{Log, Which, runtime};

/// Serve the device of an exporter file to Jumpstarter clients
///
/// Once clients can connect, a line `ready ADDRESS…` goes to standard output. SIGTERM and SIGINT
/// run the afterLease hook, end the running calls (within 5 s) and close the device (within 90 s).
/// A second signal shortens this: the device then has 3 s.
///
/// Without an address to listen at it joins the controller of the file, and serves one lease after
/// another. The exit code is then 4 if the controller refuses the token.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  jmp run lab.yaml --tls-grpc-listener 1234 --tls-cert lab.pem --tls-key lab.key
  jmp run --exporter lab --tls-grpc-listener localhost:0 --tls-grpc-insecure
  jmp run --exporter lab --tls-grpc-listener 1234 --tls-cert lab.pem --tls-key lab.key --passphrase-file secret
  jmp run --exporter lab --listen-unix /run/lab/jumpstarter.sock

A client (Python's `j` also needs JMP_DRIVERS_ALLOW=UNSAFE):
  JUMPSTARTER_HOST=/run/lab/jumpstarter.sock j power on")]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// The exporter file, as with --exporter-config
    #[arg(value_name = "FILE", conflicts_with_all = ["exporter_config", "exporter"])]
    file: Option<PathBuf>,
    /// Listen for TCP connections; port 0 takes a free one
    #[arg(long, value_name = "[HOST:]PORT", value_parser = Address::to_listen_at)]
    tls_grpc_listener: Option<Address>,
    /// Serve TCP without TLS
    #[arg(long, requires = "tls_grpc_listener", conflicts_with_all = ["tls_cert", "tls_key"])]
    tls_grpc_insecure: bool,
    /// The exporter's certificate
    #[arg(long, value_name = "PEM", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key
    #[arg(long, value_name = "PEM", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Accept only clients with a certificate of these authorities
    #[arg(long, value_name = "PEM", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
    /// The passphrase that TCP clients must give as JMP_GRPC_PASSPHRASE; other users of this
    /// machine can see it in the process list
    #[arg(long, requires = "tls_grpc_listener")]
    passphrase: Option<Passphrase>,
    /// Read the passphrase from the first line of this file; the variable JMP_GRPC_PASSPHRASE sets
    /// it, too
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_grpc_listener",
        conflicts_with = "passphrase"
    )]
    passphrase_file: Option<PathBuf>,
    /// Listen at a Unix socket that only this user can use
    #[arg(long, value_name = "PATH")]
    listen_unix: Option<PathBuf>,
    /// End after the first lease of the controller
    #[arg(long)]
    exit_on_lease_end: bool,
    /// How long a token that the controller refuses is tried, and looked for in the file again,
    /// before the exporter ends with exit code 4 [default: 5m]
    #[arg(long, value_name = "TIME")]
    token_patience: Option<Span>,
    /// Memory limit for the running calls of one connection [default: 128M]
    #[arg(long, value_name = "SIZE")]
    connection_memory: Option<ByteSize>,
    /// Memory limit for the running calls of all connections [default: a quarter of the machine's,
    /// at most 1G]
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// Serve metrics in Prometheus' format over HTTP
    #[arg(long, value_name = "HOST:PORT")]
    metrics: Option<SocketAddr>,
    #[command(flatten)]
    log: Log,
}

/// A secret from the command line.
#[derive(Clone, Debug)]
struct Passphrase(Secret);

impl std::str::FromStr for Passphrase {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.is_empty() {
            true => Err(Error::invalid_argument("an empty passphrase protects nothing")),
            false => Ok(Self(Secret::new(text))),
        }
    }
}

impl Arguments {
    fn limits(&self) -> Limits {
        let bytes = |size: ByteSize| usize::try_from(size.as_bytes()).unwrap_or(usize::MAX);
        let mut limits = Limits::default();
        if let Some(size) = self.connection_memory {
            limits = limits.connection_bytes(bytes(size));
        }
        match self.memory {
            Some(size) => limits.total_bytes(bytes(size)),
            None => limits,
        }
    }

    /// The passphrase of TCP listeners, from the command line or the environment. The exporter
    /// reads a file once: it may be a pipe.
    fn passphrase(&self) -> Option<Secret> {
        if let Some(Passphrase(secret)) = &self.passphrase {
            return Some(secret.clone());
        }
        if self.passphrase_file.is_some() || self.tls_grpc_listener.is_none() {
            return None;
        }
        let text = std::env::var("JMP_GRPC_PASSPHRASE").ok();
        text.filter(|text| !text.is_empty()).map(Secret::new)
    }
}

/// The line for standard output; a socket's path cannot break it.
fn ready_line(ready: Ready<'_>) -> String {
    let places: Vec<_> = match ready {
        Ready::Listening(addresses) => {
            addresses.iter().map(|address| Line(address.url()).to_string()).collect()
        }
        Ready::Joined(endpoint) => vec![format!("controller://{endpoint}")],
        _ => Vec::new(),
    };
    format!("ready {}", places.join(" "))
}

/// Makes options that do not fit together a wrong command line; unsupported ones are other errors.
fn wrong_usage(error: Error) -> Fault {
    match error.kind() {
        ErrorKind::InvalidArgument => Fault::Usage(error),
        _ => Fault::Failed(error),
    }
}

pub(crate) fn run(
    arguments: &Arguments,
    log: &Log,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8> {
    let passphrase = arguments.passphrase();
    let config = arguments.which.load(arguments.file.as_deref(), err)?;
    let tls =
        arguments.tls_cert.clone().zip(arguments.tls_key.clone()).map(|(certificate, key)| {
            TlsOptions::new(certificate, key).client_authority(arguments.tls_client_ca.clone())
        });
    let unix = arguments.listen_unix.clone().map(Address::Unix);
    let access = Access::default()
        .tls(tls)
        .passphrase(passphrase)
        .passphrase_file(arguments.passphrase_file.clone());
    let mut options = RunOptions::new(config)
        .listen(arguments.tls_grpc_listener.iter().cloned().chain(unix))
        .access(access)
        .insecure(arguments.tls_grpc_insecure)
        .limits(arguments.limits())
        .metrics(arguments.metrics)
        .exit_on_lease_end(arguments.exit_on_lease_end);
    if let Some(patience) = arguments.token_patience {
        options = options.token_patience(patience.as_duration());
    }
    let of_a_controller = [
        (arguments.exit_on_lease_end, "--exit-on-lease-end"),
        (arguments.token_patience.is_some(), "--token-patience"),
    ];
    for (is_given, option) in of_a_controller {
        if is_given && !options.joins_a_controller() {
            writeln!(err, "warning: {option} is for a controller, and has no effect here")?;
        }
    }
    options.check().map_err(wrong_usage)?;
    let options = options.logs(arguments.log.install(log)?.hub().clone());
    let ready = |ready: Ready<'_>| {
        writeln!(out, "{}", ready_line(ready))
            .and_then(|()| out.flush())
            .context("telling standard output that the exporter is ready")
    };
    let joins = options.joins_a_controller();
    let ended = runtime()?.block_on(jumpstarter_daemon::run(options, ready));
    ended.map(|()| SUCCESS).map_err(|error| fault(error, joins))
}

/// A controller's refusal has a separate exit code: a restart does not help.
fn fault(error: Error, joins: bool) -> Fault {
    match joins && error.kind() == ErrorKind::Unauthenticated {
        true => Fault::Refused(error),
        false => Fault::Failed(error),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn limits(options: &[&str]) -> Limits {
        let words = ["jmp", "lab.yaml"].iter().chain(options);
        Line::try_parse_from(words).unwrap().arguments.limits()
    }

    #[test]
    fn memory_reaches_the_limits() {
        let check = |options: &[&str], expected: Limits| {
            assert_eq!(limits(options), expected, "{options:?}");
        };
        let both = Limits::default().connection_bytes(3 << 20).total_bytes(3 << 29);
        check(&["--connection-memory", "3M", "--memory", "1.5GiB"], both);
        check(&["--memory", "4096"], Limits::default().total_bytes(4096));
        check(&[], Limits::default());
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for option in ["--connection-memory", "--memory"] {
            for value in ["lots", "-1", "12 parsecs", ""] {
                let line = ["jmp", "lab.yaml", &format!("{option}={value}")];
                let usage = Line::try_parse_from(line).unwrap_err();
                let hint = crate::print::hint_of(&usage).unwrap_or_default();
                assert_eq!(hint, "expected a size such as 512M, 20G or 1.5GiB", "{value}: {usage}");
            }
        }
    }

    #[test]
    fn a_refused_token_has_an_exit_code_of_its_own() {
        let code = |error: Error, joins| fault(error, joins).code();
        assert_eq!(code(Error::unauthenticated("the token has expired"), true), 4);
        assert_eq!(code(Error::unauthenticated("a driver's password"), false), 1);
        assert_eq!(code(Error::unavailable("the device does not open"), true), 1);
    }

    #[test]
    fn the_ready_line_is_one_line() {
        let addresses = [
            Address::Unix("/run/a\nready b".into()),
            Address::to_listen_at("localhost:1234").unwrap(),
        ];
        let line = ready_line(Ready::Listening(&addresses));
        assert_eq!(line, r"ready unix:///run/a\nready b tcp://localhost:1234");
    }
}
