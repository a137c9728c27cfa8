//! Tables on a terminal, and in a pipe.

use jumpstarter_supervise::{Command, run_unchecked};

use crate::bench::Lab;
use crate::lab::clean;
use crate::terminal::{DEADLINE, JMP, Terminal, code};

const WIDTH: usize = 60;

/// What a command shows on a terminal, one line for each of a pipe.
async fn shown(terminal: &Terminal, command: Command, lines: usize) -> Vec<String> {
    let command = command.spawn().await.unwrap();
    assert_eq!(code(&command).await, Some(0), "{}", terminal.text());
    let is_whole = || terminal.text().matches('\n').count() >= lines;
    jumpstarter_driver_testkit::eventually("every line", is_whole).await;
    terminal.text().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_fits_a_terminal_and_is_whole_in_a_pipe() {
    let lab = Lab::start("").await;
    let labels = [("board", "a-board-with-a-long-name"), ("room", "on-the-second-floor")];
    lab.controller.add_exporter("a-second-exporter", &labels);
    let name = lab.take().await;
    let home = lab.folder.path().join("home");
    let words = ["config", "client", "create", "me", "--namespace", "lab", "--name", "me"];
    let more = ["--endpoint", "a-controller.with.a.long.name.example:443", "--token", "t"];
    let in_home = |command: Command| command.env("JMP_CLIENT_CONFIG_HOME", &home);
    let create = clean(Command::new(JMP)).args([&words[..], &more].concat());
    assert!(run_unchecked(in_home(create), DEADLINE).await.unwrap().status.success());
    for (words, whole) in [
        (&["get", "exporters", "--with", "status,leases"][..], labels[1].1),
        (&["get", "exporters", "-o", "wide"], labels[1].1),
        (&["get", "leases"], &name),
        (&["drivers"], "read"),
        (&["driver", "list"], "jumpstarter_driver_"),
        (&["config", "client", "list"], "a-controller.with.a.long.name.example:443"),
    ] {
        let is_of_lab = words[0] == "get";
        let piped = match is_of_lab {
            true => lab.command(words, 2),
            false => clean(Command::new(JMP)).args(words),
        };
        let piped = run_unchecked(in_home(piped).env("COLUMNS", "60"), DEADLINE).await.unwrap();
        let piped = piped.stdout_text();
        assert!(piped.contains(whole), "{words:?}: {piped}");
        assert!(piped.lines().any(|line| line.chars().count() > WIDTH), "{words:?}: {piped}");
        let on = |terminal: &Terminal| match is_of_lab {
            true => lab.on(terminal, words, 2),
            false => clean(terminal.command(&[&[JMP], words].concat())).env_remove("COLUMNS"),
        };
        let count = piped.lines().count();
        let terminal = Terminal::of_width(WIDTH.try_into().unwrap());
        let lines = shown(&terminal, in_home(on(&terminal)), count).await;
        assert_eq!(lines.len(), count, "{words:?}: {lines:#?}");
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{words:?}: {lines:#?}");
        assert!(lines.iter().any(|line| line.contains('…')), "{words:?}: {lines:#?}");
        // The variable says more than the terminal.
        let terminal = Terminal::of_width(WIDTH.try_into().unwrap());
        let lines = shown(&terminal, in_home(on(&terminal)).env("COLUMNS", "1000"), count).await;
        assert!(lines.iter().any(|line| line.contains(whole)), "{words:?}: {lines:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lines_of_a_watch_fit_a_terminal() {
    let lab = Lab::start("").await;
    let mut terminal = Terminal::of_width(80);
    let watch = lab.on(&terminal, &["get", "leases", "--watch"], 2).spawn().await.unwrap();
    terminal.shows("EXPORTER").await;
    let name = lab.take().await;
    // No lease had a name when the columns were made.
    terminal.shows(&name).await;
    let (code_of_delete, _, err) = lab.run(&["delete", "leases", &name], 3).await;
    assert_eq!(code_of_delete, Some(0), "{err}");
    terminal.shows("0s").await;
    terminal.press("\u{3}");
    assert_eq!(code(&watch).await, Some(130), "{}", terminal.text());
    assert!(terminal.text().lines().all(|line| line.chars().count() <= 80), "{}", terminal.text());
}
