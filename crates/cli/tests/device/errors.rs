//! Wrong command lines, devices that cannot be reached, and exit codes.

use insta::assert_snapshot;
use jumpstarter_supervise::Command;

use crate::inside;
use crate::lab::{Bench, clean};
use crate::terminal::J;

#[tokio::test]
async fn unknown_paths_and_verbs_suggest_what_there_is() {
    let bench = Bench::everything().await;
    assert_snapshot!(bench.j(&["pwoer", "on"]).await, @r"
    --- stderr
    error: this device has no `pwoer`
    hint: did you mean `power`? There are `power`, `echo`, `console`, `flasher`, `rack`, `switch`, `tree`, `call`, `stream`, `log`, `status`, `reset` and `completions`
    --- exit code 2
    ");
    assert_snapshot!(bench.j(&["power", "onn"]).await, @r"
    --- stderr
    error: `power` has no `onn`
    hint: did you mean `on`? There are `on`, `off`, `cycle` and `read`
    --- exit code 2
    ");
    assert_snapshot!(bench.j(&["shelf", "power", "on"]).await, @r"
    --- stderr
    error: this device has no `shelf`
    hint: `shelf` is at `rack.shelf`
    --- exit code 2
    ");
    assert_snapshot!(bench.j(&["rack.shelf.powr", "on"]).await, @r"
    --- stderr
    error: this device has no `rack.shelf.powr`
    hint: did you mean `rack.shelf.power`? There are `power`, `echo`, `console`, `flasher`, `rack`, `rack.web`, `rack.shelf`, `rack.shelf.power` and `switch`
    --- exit code 2
    ");
    assert_snapshot!(bench.j(&["rack", "shelf", "web", "address"]).await, @r"
    --- stderr
    error: `rack.shelf` has no `web`
    hint: `web` is at `rack.web`
    --- exit code 2
    ");
}

#[tokio::test]
async fn lines_that_end_too_early() {
    let bench = Bench::everything().await;
    let said = bench.j(&["rack", "shelf", "power"]).await;
    assert!(said.ends_with("--- exit code 2\n"), "{said}");
    let said = bench.j(&[]).await;
    assert!(said.ends_with("--- exit code 2\n") && said.contains("Usage: j"), "{said}");
}

#[tokio::test]
async fn errors_for_programs_are_json_whatever_is_wrong() {
    let bench = Bench::everything().await;
    assert_snapshot!(bench.j(&["power", "onn", "--output", "json"]).await, @r#"
    --- stderr
    {"error":"`power` has no `onn`","kind":"InvalidArgument","hint":"did you mean `on`? There are `on`, `off`, `cycle` and `read`"}
    --- exit code 2
    "#);
    assert_snapshot!(bench.j(&["power", "on", "--loud", "--output", "json"]).await, @r#"
    --- stderr
    {"error":"unexpected argument '--loud' found","kind":"InvalidArgument","hint":"`--help` shows what can be written there"}
    --- exit code 2
    "#);
    assert_snapshot!(bench.j(&["--output", "json", "power", "cycle", "--wait", "soon"]).await, @r#"
    --- stderr
    {"error":"invalid value 'soon' for '--wait <TIME>': `soon` is not a time: unknown unit `soon`","kind":"InvalidArgument","hint":"expected a time such as 500ms, 30s, 2min or 1h"}
    --- exit code 2
    "#);
    assert_snapshot!(bench.j(&["--output=json", "power"]).await, @r#"
    --- stderr
    {"error":"the command line is incomplete: a command is missing","kind":"InvalidArgument","hint":"`--help` shows what can be written there"}
    --- exit code 2
    "#);
    assert_snapshot!(bench.j(&["--output", "json"]).await, @r#"
    --- stderr
    {"error":"the command line is incomplete: a command is missing","kind":"InvalidArgument","hint":"`--help` shows what can be written there"}
    --- exit code 2
    "#);
    assert_snapshot!(bench.j(&["--output", "json", "--log-level", "loud", "tree"]).await, @r#"
    --- stderr
    {"error":"invalid value 'loud' for '--log-level <LEVEL>' [possible values: debug, info, warning, error]","kind":"InvalidArgument","hint":"`--help` shows what can be written there"}
    --- exit code 2
    "#);
    assert_snapshot!(bench.j(&["--output", "json", "flasher", "flash"]).await, @r#"
    --- stderr
    {"error":"the following required arguments were not provided: <FILE>","kind":"InvalidArgument","hint":"`--help` shows what can be written there"}
    --- exit code 2
    "#);
    assert_snapshot!(bench.j(&["--output", "json", "completions", "ksh"]).await, @r#"
    --- stderr
    {"error":"invalid value 'ksh' for '<SHELL>' [possible values: bash, zsh, fish]","kind":"InvalidArgument","hint":"a similar value exists: 'zsh'"}
    --- exit code 2
    "#);
    // Help was asked for and is no error.
    let help = bench.j(&["--output", "json", "power", "--help"]).await;
    assert!(help.starts_with("relay 1") && !help.contains("--- "), "{help}");
}

async fn without_device(words: &[&str], host: Option<&str>) -> String {
    let host = host.unwrap_or_default();
    let variables = [("JUMPSTARTER_HOST", host), ("JMP_GRPC_INSECURE", "1")];
    let (code, out, err) = inside::j(words, &variables).await;
    inside::transcript(code, &out, &err)
}

#[tokio::test]
async fn no_device() {
    assert_snapshot!(without_device(&["power", "on"], None).await, @r"
    --- stderr
    error: which device?
    hint: run this in `jmp shell`, set JUMPSTARTER_HOST to an exporter's socket or HOST:PORT, or add --exporter-config FILE, --exporter ALIAS, --tls-grpc HOST:PORT, or --selector LABELS for a device of a lab
    --- exit code 2
    ");
    assert_snapshot!(without_device(&["power", "on", "--output", "json"], None).await, @r#"
    --- stderr
    {"error":"which device?","kind":"InvalidArgument","hint":"run this in `jmp shell`, set JUMPSTARTER_HOST to an exporter's socket or HOST:PORT, or add --exporter-config FILE, --exporter ALIAS, --tls-grpc HOST:PORT, or --selector LABELS for a device of a lab"}
    --- exit code 2
    "#);
}

#[tokio::test]
async fn devices_that_cannot_be_reached() {
    assert_snapshot!(without_device(&["power", "on"], Some("/no/such/socket")).await, @r"
    --- stderr
    error: there is no socket /no/such/socket
    hint: start the exporter: it creates the socket
    --- exit code 3
    ");
    let port = jumpstarter_driver_testkit::reserve_port();
    let said = without_device(&["power", "on"], Some(&format!("127.0.0.1:{port}"))).await;
    assert_snapshot!(said.replace(&port.to_string(), "PORT"), @r"
    --- stderr
    error: nothing listens at 127.0.0.1:PORT
    hint: check host and port, and that the exporter is running
    --- exit code 3
    ");
    assert_snapshot!(without_device(&["power", "on", "--output", "json"], Some("/no/such/socket")).await, @r#"
    --- stderr
    {"error":"there is no socket /no/such/socket","kind":"NotFound","hint":"start the exporter: it creates the socket"}
    --- exit code 3
    "#);
}

#[tokio::test]
async fn a_file_with_faults() {
    let bench = Bench::everything().await;
    std::fs::write(bench.lab.path("wrong.yaml"), "export: {power: {type: mock-powr}}").unwrap();
    assert_snapshot!(bench.j(&["--exporter-config", "wrong.yaml", "power", "on"]).await, @r"
    --- stderr
    error: the exporter file is not right
      wrong.yaml:1:24: export.power.type: there is no driver `mock-powr` in this program; did you mean `mock-power`?
    --- exit code 3
    ");
}

#[tokio::test]
async fn what_a_driver_refuses_is_code_1() {
    let bench = Bench::everything().await;
    // Nothing listens at that port.
    assert_snapshot!(bench.j_with(&["stream", "rack.web"], b"").await, @r"
    --- stderr
    error: connecting to TCP endpoint 127.0.0.1:4711: 127.0.0.1:4711: Connection refused (os error 111)
    hint: check that the service listens there and that nothing on the way blocks it
    --- exit code 1
    ");
}

/// Opening a device takes hold of hardware, which a page of help does not need.
#[tokio::test]
async fn help_does_not_open_a_device_of_a_file() {
    let bench = Bench::everything().await;
    let missing = "
export:
  console: {type: serial, config: {url: /no/such/port}, description: the board's}
  qemu: {type: qemu, config: {binary: /no/such/qemu, hostfwd: {web: {guestport: 80}}}}
  alias: {ref: qemu}
";
    std::fs::write(bench.lab.path("lab.yaml"), missing).unwrap();
    let help = async |words: &[&str]| {
        let command =
            clean(Command::new(J)).args(words).arg("--help").current_dir(bench.lab.folder());
        let said = bench.run(command.env("JMP_EXPORTER_CONFIG", "lab.yaml")).await;
        assert!(
            said.contains("Usage: j") && !said.contains("---") && !said.contains("/no/such"),
            "{said}"
        );
        let lines = said.lines().skip_while(|line| *line != "Commands:").skip(1);
        let commands =
            lines.take_while(|line| !line.is_empty()).map(|line| line.trim().to_owned() + "\n");
        commands.collect::<String>()
    };
    assert_snapshot!(help(&[]).await, @r"
    console      the board's
    qemu         machine, qemu
    alias        machine, qemu
    tree         Shows the device's tree of drivers
    call         Calls a method by its name and prints the answer
    stream       Connects standard input and output to a driver, or prints the values that a method streams
    log          Follows the exporter's log
    status       Shows the exporter's state and address
    reset        Resets every driver of the device
    completions  Prints a script with which a shell completes the device's paths and verbs
    ");
    assert_snapshot!(help(&["console"]).await, @r"
    start-console  Connects this terminal to the console, until Ctrl-B is pressed three times
    pipe           Copies the port's output to standard output or a file, and standard input to the port
    serve-rfc2217  Makes the port one of RFC 2217 on this machine, for programs such as pySerial
    script         Holds a conversation with the console: sends, and waits for text
    run            Runs a command in the device's shell, over the console, and prints its output
    put            Copies a file of this machine to the device, over the console
    get            Copies a file of the device to this machine, over the console
    set-dtr        Sets the DTR line
    set-rts        Sets the RTS line
    send-break     Sends a break of this length; 250 ms by default, 10 s at most
    configure      Changes the settings that are given, for every client and until the driver is reset, and returns all that are known
    close          Ends every open connection to the port; it can be opened again
    ");
    let of_alias = help(&["alias"]).await;
    for line in ["power         power", "web           network", "start         Powers on"] {
        assert!(of_alias.contains(line), "{of_alias}");
    }
    assert_snapshot!(help(&["qemu", "power"]).await, @r"
    on     Applies power
    off    Cuts power
    cycle  Cuts power, waits, and applies it again
    read   Streams readings of the power meter until dropped
    ");
    assert_eq!(help(&["qemu.web", "forward-tcp"]).await, "");
    // With a file that is wrong there is the help that every device has.
    std::fs::write(bench.lab.path("lab.yaml"), "export: {console: {type: seriall}}").unwrap();
    let said = bench.j(&["--exporter-config", "lab.yaml", "--help"]).await;
    assert!(
        said.contains("Usage: j") && said.contains("not shown: the exporter file is not right"),
        "{said}"
    );
    assert!(!said.contains("exit code"), "{said}");
}

#[tokio::test]
async fn help_of_a_file_is_that_of_its_device() {
    let bench = Bench::everything().await;
    let file = bench.lab.file();
    for words in
        [&["power"][..], &["rack", "shelf", "power", "read"], &["switch"], &["flasher", "flash"]]
    {
        let words = [words, &["--help"]].concat();
        let of_file = bench.j(&[&["--exporter-config", &file], &words[..]].concat()).await;
        assert_eq!(of_file, bench.j(&words).await);
    }
}
