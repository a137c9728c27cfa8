//! Measures what owning a program costs: `cargo run --release -p jumpstarter-supervise --example
//! spawn_cost`.

use std::time::{Duration, Instant};

use jumpstarter_supervise::Command;

const ROUNDS: usize = 300;

#[tokio::main]
#[expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement, compared with the plain way"
)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut plain_start, mut plain_end, mut start, mut end) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let mut process = tokio::process::Command::new("true").spawn()?;
        plain_start.push(began.elapsed());
        process.wait().await?;
        plain_end.push(began.elapsed());

        let began = Instant::now();
        let child = Command::new("true").spawn().await?;
        start.push(began.elapsed());
        child.wait().await;
        end.push(began.elapsed());
    }
    println!("plain:  started {}, ended {}", summary(&mut plain_start), summary(&mut plain_end));
    println!("owned:  started {}, ended {}", summary(&mut start), summary(&mut end));
    Ok(())
}

fn summary(times: &mut [Duration]) -> String {
    times.sort_unstable();
    format!("median {:?} (95%: {:?})", times[ROUNDS / 2], times[ROUNDS * 95 / 100])
}
