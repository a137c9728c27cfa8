//! Leases that exist: one that is named, the only one, one of several.

use jumpstarter_supervise::{Command, run_unchecked};

use crate::bench::Lab;
use crate::lab::clean;
use crate::terminal::{DEADLINE, J, Terminal, code};

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_matches_what_is_asked_for_beside_it() {
    let lab = Lab::start("").await;
    lab.controller.add_exporter("e2", &[("board", "other")]);
    let name = lab.take().await;
    for matching in [["-n", "e1"], ["-l", "board=mock"], ["-l", "!room,board in (mock,x)"]] {
        let words = [&["--lease", &name], &matching[..], &["--", "j", "power", "on"]].concat();
        let (code, _, err) = lab.shell(&words).await;
        assert_eq!(code, Some(0), "{matching:?}: {err}");
    }
    for (option, value) in [("--name", "e2"), ("--selector", "board=other")] {
        let (code, out, err) =
            lab.shell(&["--lease", &name, option, value, "echo", "it ran"]).await;
        assert_eq!((code, out.as_str()), (Some(1), ""), "{option}");
        let both = [
            format!("the lease {name} (exporter=e1, "),
            format!("does not match {option} {value}"),
            format!("leave out {option} for this lease, or --lease for another one"),
        ];
        assert!(both.iter().all(|part| err.contains(part)), "{err}");
    }
    // By its selector, before it has an exporter.
    let words = ["create", "lease", "-l", "board=mock", "--duration", "1h", "-o", "name"];
    let (_, pending, _) = lab.run(&words, 2).await;
    let words = ["forward", "echo", "--lease", pending.trim(), "-l", "board=other"];
    let (code, _, err) = lab.run(&words, 1).await;
    assert!(code == Some(1) && err.contains("(selector=board=mock) does not match"), "{err}");
    let (code, _, err) = lab.shell(&["--lease", &name, "-l", "board=", "-l", "=x", "true"]).await;
    assert!(code == Some(2) && err.contains("`=x` selects no labels"), "{err}");
    assert_eq!(lab.controller.leases(true).len(), 2, "no lease was created or released");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_leases_is_picked_on_a_terminal() {
    let lab = Lab::start("").await;
    let file = lab.folder.path().join("client.yaml");
    let j = ["--client-config", file.to_str().unwrap(), "power", "on"];
    let run_j = async || run_unchecked(clean(Command::new(J)).args(j), DEADLINE).await.unwrap();
    let (code_of_none, _, err) = lab.shell(&["true"]).await;
    assert_eq!(code_of_none, Some(2));
    assert!(err.contains("The client c1 has no active lease"), "{err}");
    assert_eq!(run_j().await.status.code(), Some(2));
    // One is used, and kept.
    let name = lab.take().await;
    let (code_of_one, out, err) = lab.shell(&["sh", "-c", "echo $JMP_LEASE"]).await;
    assert_eq!((code_of_one, out), (Some(0), format!("{name}\n")), "{err}");
    assert!(err.contains(&format!("using the lease {name} (exporter=e1, expires 2")), "{err}");
    let output = run_j().await;
    assert!(output.status.success(), "{}", output.stderr);
    // Of several, without a terminal, none.
    let other = lab.take().await;
    for words in [&["shell", "true"][..], &["forward", "echo"]] {
        let (code, _, err) = lab.run(words, 1).await;
        assert_eq!(code, Some(2), "{err}");
        let parts = ["multiple active leases found:", &name, &other, "exporter=e1", "--lease"];
        assert!(parts.iter().all(|part| err.contains(part)), "{err}");
    }
    let output = run_j().await;
    assert!(output.status.code() == Some(2) && output.stderr.contains(&other), "{}", output.stderr);
    let mut terminal = Terminal::new();
    let words = ["shell", "sh", "-c", "echo it uses $JMP_LEASE"];
    let shell = lab.on(&terminal, &words, 1).spawn().await.unwrap();
    terminal.shows("Select a lease [1-2]: ").await;
    let shown = terminal.text();
    let place = |name: &str| shown.find(name).unwrap_or_else(|| panic!("{name}: {shown}"));
    let number = if place(&name) < place(&other) { 1 } else { 2 };
    terminal.press("3\n");
    terminal.shows("Select a lease [1-2]: 3\r\nSelect a lease [1-2]: ").await;
    terminal.press(format!("{number}\n"));
    terminal.shows(format!("it uses {name}")).await;
    assert_eq!(code(&shell).await, Some(0), "{}", terminal.text());
    // By its name; Ctrl-C gives up.
    let mut terminal = Terminal::new();
    let words = [&[J], &j[..]].concat();
    let picks = clean(terminal.command(&words)).spawn().await.unwrap();
    terminal.shows("Select a lease [1-2]: ").await;
    terminal.press(format!("{name}\n"));
    assert_eq!(code(&picks).await, Some(0), "{}", terminal.text());
    let mut terminal = Terminal::new();
    let gives_up = lab.on(&terminal, &["forward", "echo"], 1).spawn().await.unwrap();
    terminal.shows("Select a lease [1-2]: ").await;
    terminal.press("\u{3}");
    assert_eq!(code(&gives_up).await, Some(1), "{}", terminal.text());
    assert_eq!(lab.controller.leases(true).len(), 2);
}
