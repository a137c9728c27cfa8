//! Runs programs and takes their time, or the figure that they print.

use std::path::Path;
use std::time::{Duration, Instant};

use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::{Child, Command, Sink, SuperviseError, run};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::ChildStdout;
use tokio::time::timeout;

/// How long one turn may take.
const TURN: Duration = Duration::from_secs(600);
/// How long a server may take until it says that it is ready.
const START: Duration = Duration::from_secs(60);

/// Runs a program to its end and returns how long it took, its start included.
pub(crate) async fn timed(command: Command) -> Result<Duration> {
    let started = Instant::now();
    finish(command).await?;
    Ok(started.elapsed())
}

/// Runs a program to its end.
pub(crate) async fn finish(command: Command) -> Result<()> {
    run(command, TURN).await.map(drop).map_err(failed)
}

/// The number in the last line of what a program prints: the Python client also prints its
/// progress.
pub(crate) async fn figure(command: Command) -> Result<f64> {
    let output = run(command.stdout(Sink::Tail(1024)), TURN).await.map_err(failed)?;
    let text = output.stdout_text();
    let last = text.trim().lines().last().unwrap_or_default();
    last.parse().map_err(|_| Error::internal(format!("`{last}` is no figure")))
}

/// A program that goes on, and the first line of what it says. The reader must be kept: the program
/// may say more.
pub(crate) async fn started(command: Command) -> Result<(Child, String, BufReader<ChildStdout>)> {
    let child = command.stdout(Sink::Piped).spawn().await.map_err(failed)?;
    let output =
        child.take_stdout().ok_or_else(|| Error::internal("its output was taken already"))?;
    let (mut output, mut line) = (BufReader::new(output), String::new());
    match timeout(START, output.read_line(&mut line)).await {
        Ok(Ok(length)) if length > 0 => Ok((child, line.trim_end().to_owned(), output)),
        _ => Err(Error::unavailable(format!("it did not start: {}", child.stderr_tail()))),
    }
}

fn failed(error: SuperviseError) -> Error {
    Error::internal("running a tool").with_source(error)
}

/// A line of shell; `"$1"` and so on are the arguments.
pub(crate) fn shell<'a>(line: &str, arguments: impl IntoIterator<Item = &'a Path>) -> Command {
    Command::new("sh").args(["-c", line, "sh"]).args(arguments)
}

/// Takes both figures in turns. Who is first changes, too: the first may find the machine busy with
/// what was before.
///
/// Without the other, its figures are empty.
pub(crate) async fn alternate(
    turns: u32,
    mut ours: impl AsyncFnMut() -> Result<f64>,
    mut theirs: Option<impl AsyncFnMut() -> Result<f64>>,
) -> Result<[Vec<f64>; 2]> {
    let mut figures = [Vec::new(), Vec::new()];
    for turn in 0..turns {
        if turn % 2 == 0 {
            figures[0].push(ours().await?);
        }
        if let Some(theirs) = &mut theirs {
            figures[1].push(theirs().await?);
        }
        if turn % 2 == 1 {
            figures[0].push(ours().await?);
        }
    }
    Ok(figures)
}

/// The machine, and what else it is doing, as a note to a table.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let load = read("/proc/loadavg");
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    let model = read("/proc/cpuinfo");
    let model = model.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("an unknown processor", |(_, model)| model.trim());
    match load.is_empty() {
        true => format!("{cores} cores of {model}"),
        false => format!("{cores} cores of {model}; load average at the end: {}", load.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_alternate_and_who_is_first_changes() {
        let order = std::cell::RefCell::new(Vec::new());
        let turn = |name: &'static str, figure| {
            order.borrow_mut().push(name);
            Ok(figure)
        };
        let figures =
            alternate(3, async || turn("ours", 1.0), Some(async || turn("theirs", 2.0))).await;
        assert_eq!(figures.unwrap(), [vec![1.0; 3], vec![2.0; 3]]);
        assert_eq!(*order.borrow(), ["ours", "theirs", "theirs", "ours", "ours", "theirs"]);
        let alone =
            alternate(2, async || Ok(1.0), None::<fn() -> std::future::Ready<Result<f64>>>).await;
        assert_eq!(alone.unwrap(), [vec![1.0; 2], vec![]]);
    }

    #[tokio::test]
    async fn a_figure_is_what_a_program_prints() {
        assert_eq!(figure(Command::new("printf").arg("progress\\n12.5\\n")).await.unwrap(), 12.5);
        figure(Command::new("echo").arg("twelve")).await.unwrap_err();
        figure(Command::new("false")).await.unwrap_err();
    }
}
