//! What TAB offers.

use insta::assert_snapshot;
use jumpstarter_supervise::{Command, run_unchecked};

use crate::inside;
use crate::lab::{Bench, clean, in_time};
use crate::terminal::{DEADLINE, J};

/// What the script for fish is answered: a candidate a line, a tab, and what it is. The last word
/// is completed.
async fn offered(bench: &Bench, line: &[&str]) -> String {
    let words = ["--"].iter().chain(line).copied().collect::<Vec<_>>();
    let variables = [("JUMPSTARTER_HOST", bench.host.as_str()), ("COMPLETE", "fish")];
    in_time(async || {
        let (code, out, err) = inside::j(&words, &variables).await;
        assert_eq!(code, 0, "{err}");
        out
    })
    .await
}

#[tokio::test]
async fn drivers_and_verbs() {
    let bench = Bench::everything().await;
    assert_snapshot!(offered(&bench, &["j", "p"]).await, @"power	relay 1");
    assert_snapshot!(offered(&bench, &["j", "rack", ""]).await, @r"
    web	network
    shelf	a group of drivers
    --output	How to print answers, text by default; json is one value a line, errors too
    --help	Print help (see more with '--help')
    ");
    assert_snapshot!(offered(&bench, &["j", "rack", "shelf", "power", "c"]).await, @"cycle	Cuts power, waits, and applies it again");
    assert_snapshot!(offered(&bench, &["j", "rack.shelf.power", "o"]).await, @r"
    on	Lights the shelf
    off	Cuts power
    ");
}

#[tokio::test]
async fn paths_and_methods() {
    let bench = Bench::everything().await;
    assert_snapshot!(offered(&bench, &["j", "call", "rack.s"]).await, @r"
    rack.shelf	a group of drivers
    rack.shelf.power	power
    ");
    assert_snapshot!(offered(&bench, &["j", "call", "rack.shelf.power", ""]).await, @r"
    on	on()
    off	off()
    read	read()
    --output	How to print answers, text by default; json is one value a line, errors too
    --help	Print help (see more with '--help')
    ");
    assert_snapshot!(offered(&bench, &["j", "tree", "ra"]).await, @r"
    rack	the upper one
    rack.web	network
    rack.shelf	a group of drivers
    rack.shelf.power	power
    ");
}

/// Bash counts the words, and gets them in lines.
#[tokio::test]
async fn bash_asks_in_its_own_way() {
    let bench = Bench::everything().await;
    let output = in_time(async || {
        let command = bench.command(&["--", "j", "rack", "sh"]).env("COMPLETE", "bash");
        let command = command.env("_CLAP_COMPLETE_INDEX", "2").env("_CLAP_IFS", "\n");
        run_unchecked(command, DEADLINE).await.unwrap()
    })
    .await;
    assert_snapshot!(output.stdout_text(), @"shelf");
}

#[tokio::test]
async fn without_a_device_the_commands_of_every_device() {
    let command = clean(Command::new(J)).args(["--", "j", "t"]).env("COMPLETE", "fish");
    let output = run_unchecked(command, DEADLINE).await.unwrap();
    assert_snapshot!(output.stdout_text(), @"tree	Shows the device's tree of drivers");
}

/// The script itself, in the shell that it is for.
#[tokio::test]
async fn a_shell_that_sources_the_script_offers_them() {
    let bench = Bench::everything().await;
    let script = r#"
        PATH="$(dirname "$1"):$PATH"
        source <(j completions bash)
        COMP_WORDS=(j rack shelf po); COMP_CWORD=3; COMP_TYPE=9
        completion=$(complete -p j | sed 's/.*-F \([^ ]*\).*/\1/')
        "$completion" j po shelf
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let offered = in_time(async || {
        let command = clean(Command::new("bash"))
            .args(["-c", script, "bash", J])
            .env("JUMPSTARTER_HOST", &bench.host);
        bench.run(command).await
    })
    .await;
    assert_snapshot!(offered, @"power");
}
