//! `cargo xtask ci`: everything that has to pass, in the order in which it fails soonest.
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::interop::{self, Grpcio};
use crate::process::{Interrupted, Run};
use crate::progress::{note, seconds};
use crate::setup::{self, Policy};
use crate::{api, book, outside, test, tidy, workspace};

/// How many tests may be skipped on the machine that runs CI. Raise it with a reason in the commit.
const MAX_SKIPPED: usize = 12;

/// Arguments of `cargo xtask ci`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Leave a step out (repeatable); the summary says so
    #[arg(long, value_enum, value_name = "STEP")]
    skip: Vec<Step>,
    /// Fail if more tests than this are skipped
    #[arg(long, value_name = "N", default_value_t = MAX_SKIPPED)]
    max_skipped: usize,
    #[command(flatten)]
    policy: Policy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Formatting
    Fmt,
    /// House rules
    Tidy,
    /// Lints
    Clippy,
    /// Documentation
    Docs,
    /// The book in docs/
    Book,
    /// The listings of each library's public API
    Api,
    /// Every test, with virtual machines of both architectures
    Test,
    /// Crates with each of their features alone
    Features,
    /// Drivers outside of this workspace, against the packaged crates
    Outside,
    /// The real Python client on our exporter, and our client on the real Python exporter
    Interop,
    /// Licences and sources of dependencies
    Deny,
}

impl Step {
    async fn run(self, arguments: &Arguments) -> Result<()> {
        match self {
            Step::Fmt => Run::cargo().args(["fmt", "--all", "--check"]).show().await,
            Step::Tidy => tidy::run(tidy::Arguments {}).await,
            Step::Clippy => {
                let clippy = Run::cargo().args(["clippy", "--workspace", "--all-targets"]);
                clippy.args(["--", "-D", "warnings"]).show().await
            }
            Step::Docs => {
                let doc = Run::cargo().args(["doc", "--workspace", "--no-deps"]);
                doc.env("RUSTDOCFLAGS", "-D warnings").show().await
            }
            Step::Book => book::run(book::Arguments { policy: arguments.policy }).await,
            Step::Api => api::run(api::Arguments { packages: Vec::new(), check: true }).await,
            Step::Test => {
                let max_skipped = Some(arguments.max_skipped);
                let policy = arguments.policy;
                test::run(test::Arguments {
                    policy,
                    aarch64: true,
                    max_skipped,
                    nextest: Vec::new(),
                })
                .await
            }
            Step::Features => outside::each_feature().await,
            Step::Outside => outside::run(outside::Arguments {}).await,
            Step::Interop => {
                let grpcio = vec![Grpcio::Newest, Grpcio::Oldest];
                let policy = arguments.policy;
                interop::run(interop::Arguments {
                    grpcio,
                    no_skips: true,
                    policy,
                    pytest: Vec::new(),
                })
                .await
            }
            Step::Deny => {
                setup::ensure_cargo_tool("deny", arguments.policy).await?;
                Run::cargo()
                    .args([
                        "deny",
                        "check",
                        "--hide-inclusion-graph",
                        "bans",
                        "licenses",
                        "sources",
                    ])
                    .show()
                    .await
            }
        }
    }

    /// The folder in `target/` in which only this step builds.
    fn own_folder(self) -> Option<&'static str> {
        match self {
            Step::Api => Some("api"),
            Step::Outside => Some("outside"),
            _ => None,
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// How a step ended.
#[derive(Debug)]
enum Outcome {
    Passed(Duration),
    Failed(Duration, String),
    LeftOut,
}

/// Runs the task: every step, also after one that failed.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let start = Instant::now();
    let target = workspace::target().await?;
    let mut outcomes = Vec::new();
    for step in Step::value_variants() {
        if arguments.skip.contains(step) {
            outcomes.push((step.name(), Outcome::LeftOut));
            continue;
        }
        // A full disk fails in strange places: the output shows how much was left.
        note(format_args!("\n== {} ({} GiB free)", step.name(), free_gibibytes(&target)));
        let begun = Instant::now();
        let outcome = match step.run(&arguments).await {
            Ok(()) => Outcome::Passed(begun.elapsed()),
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => {
                note(format_args!("error: {error:#}"));
                Outcome::Failed(begun.elapsed(), format!("{error:#}"))
            }
        };
        outcomes.push((step.name(), outcome));
        if let Some(folder) = step.own_folder() {
            // Nothing after it needs what it built, and the tests need the space.
            drop(std::fs::remove_dir_all(target.join(folder)));
        }
    }
    note(format_args!("\n{}", summary(&outcomes, start.elapsed())));
    let failed: Vec<_> =
        outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Failed(..))).collect();
    match failed.len() {
        0 => Ok(()),
        count => bail!("{count} of {} steps failed", outcomes.len()),
    }
}

/// What is free on the disk of `folder`, or of the nearest folder above it that exists.
fn free_gibibytes(folder: &Path) -> u64 {
    let system = folder.ancestors().find_map(|folder| rustix::fs::statvfs(folder).ok());
    system.map_or(0, |system| (system.f_bavail * system.f_frsize) >> 30)
}

fn summary(outcomes: &[(String, Outcome)], total: Duration) -> String {
    let mut table = String::new();
    for (name, outcome) in outcomes {
        let (time, how) = match outcome {
            Outcome::Passed(time) => (seconds(*time), "passed".to_owned()),
            Outcome::Failed(time, why) => {
                (seconds(*time), format!("FAILED: {}", why.lines().next().unwrap_or_default()))
            }
            Outcome::LeftOut => (String::new(), "left out (--skip)".to_owned()),
        };
        table += &format!("{name:<8} {time:>8}  {how}\n");
    }
    table + &format!("{:<8} {:>8}", "total", seconds(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_names_every_step_and_its_end() {
        let outcomes = [
            ("fmt".to_owned(), Outcome::Passed(Duration::from_secs(2))),
            (
                "test".to_owned(),
                Outcome::Failed(Duration::from_secs(61), "no QEMU\nmore".to_owned()),
            ),
            ("deny".to_owned(), Outcome::LeftOut),
        ];
        let expected = "fmt          2.0s  passed\ntest        1m01s  FAILED: no QEMU\n\
                        deny               left out (--skip)\ntotal       1m03s";
        assert_eq!(summary(&outcomes, Duration::from_secs(63)), expected);
    }
}
