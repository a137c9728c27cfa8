//! The doctor: what this host can do for virtual machines, what is missing, and what to do. `cargo
//! xtask doctor` runs it.

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use jumpstarter_driver_qemu::Architecture;
use serde_json::json;

mod finding;
mod machines;
mod system;

use finding::{Finding, Verdict};

/// Says what this host can do.
#[derive(Debug, Parser)]
#[command(name = "doctor", max_term_width = 110)]
struct Arguments {
    /// Architectures whose machines have to run here
    #[arg(long = "arch", value_enum, default_values_t = [Arch::X86_64])]
    arches: Vec<Arch>,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Arch {
    #[value(name = "x86_64")]
    X86_64,
    #[value(name = "aarch64")]
    Aarch64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
}

impl From<Arch> for Architecture {
    fn from(arch: Arch) -> Self {
        match arch {
            Arch::X86_64 => Self::X86_64,
            Arch::Aarch64 => Self::Aarch64,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut findings = Vec::new();
    for arch in Arch::value_variants() {
        let needed = arguments.arches.contains(arch);
        findings.extend(machines::examine((*arch).into(), needed).await);
    }
    findings.push(machines::examine_kvm());
    findings.push(machines::examine_vsock());
    findings.push(machines::examine_images().await);
    findings.extend(system::examine().await);
    print(&findings, arguments.output);
    match findings.iter().any(|finding| finding.verdict == Verdict::Fault) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

#[expect(clippy::print_stdout, reason = "the findings are what the program is for")]
fn print(findings: &[Finding], format: Format) {
    let faults = findings.iter().filter(|finding| finding.verdict == Verdict::Fault).count();
    if format == Format::Json {
        let report = json!({"ok": faults == 0, "findings": findings.iter().map(Finding::json).collect::<Vec<_>>()});
        println!("{}", jumpstarter_text::json(&format!("{report:#}")));
        return;
    }
    for finding in findings {
        println!("{}", jumpstarter_text::block(&finding.to_string()));
    }
    match faults {
        0 => println!("Machines can run here."),
        1 => println!("1 fault: see the remedy above."),
        count => println!("{count} faults: see the remedies above."),
    }
}
