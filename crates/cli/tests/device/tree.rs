//! `j tree`, paths, and help.

use insta::assert_snapshot;

use crate::lab::Bench;
use crate::terminal::Lab;

#[tokio::test]
async fn the_tree_for_people() {
    let bench = Bench::everything().await;
    assert_snapshot!(bench.j_in_time(&["tree"]).await, @r"
    power        power                                     relay 1
    echo         network
    console      serial
    flasher      flasher
    rack                                                   the upper one
    ├─ web       network             tcp://127.0.0.1:4711
    └─ shelf
       └─ power  power
    switch       → rack.shelf.power
    ");
    assert_snapshot!(bench.j(&["tree", "rack.shelf"]).await, @r"
    shelf
    └─ power  power
    ");
}

#[tokio::test]
async fn the_tree_for_programs() {
    let bench = Bench::everything().await;
    let text = bench.j_in_time(&["tree", "rack", "--output", "json"]).await;
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_snapshot!(serde_json::to_string_pretty(&value).unwrap(), @r#"
    {
      "path": "rack",
      "name": "rack",
      "description": "the upper one",
      "client": "jumpstarter_driver_composite.client.CompositeClient",
      "labels": {},
      "interfaces": [],
      "same_as": null,
      "state": null,
      "address": null,
      "methods": {},
      "children": [
        {
          "path": "rack.web",
          "name": "web",
          "description": null,
          "client": "jumpstarter_driver_network.client.NetworkClient",
          "labels": {},
          "interfaces": [
            "network"
          ],
          "same_as": null,
          "state": null,
          "address": "tcp://127.0.0.1:4711",
          "methods": {},
          "children": []
        },
        {
          "path": "rack.shelf",
          "name": "shelf",
          "description": null,
          "client": "jumpstarter_driver_composite.client.CompositeClient",
          "labels": {},
          "interfaces": [],
          "same_as": null,
          "state": null,
          "address": null,
          "methods": {},
          "children": [
            {
              "path": "rack.shelf.power",
              "name": "power",
              "description": null,
              "client": "jumpstarter_driver_power.client.PowerClient",
              "labels": {},
              "interfaces": [
                "power"
              ],
              "same_as": null,
              "state": null,
              "address": null,
              "methods": {
                "on": "Lights the shelf",
                "read": "Asks the shelf's meter"
              },
              "children": []
            }
          ]
        }
      ]
    }
    "#);
    let text = bench.j(&["--output", "json", "tree"]).await;
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let switch = value["children"]
        .as_array()
        .unwrap()
        .iter()
        .find(|child| child["name"] == "switch")
        .unwrap();
    assert_eq!(switch["same_as"], "rack.shelf.power");
}

#[tokio::test]
async fn paths_are_words_or_have_dots() {
    let bench = Bench::everything().await;
    for words in [
        ["rack", "shelf", "power", "on"].as_slice(),
        &["rack.shelf.power", "on"],
        &["switch", "on"],
    ] {
        assert_eq!(bench.j(words).await, "", "{words:?}");
    }
    assert_snapshot!(bench.j(&["rack.shelf", "power", "on"]).await, @"");
}

#[tokio::test]
async fn its_version_needs_no_device() {
    let version = format!("j {}\n", env!("CARGO_PKG_VERSION"));
    for option in ["--version", "-V"] {
        let lab = Lab::new("");
        assert_eq!(lab.j("", &[option]).await, version);
        assert_eq!(lab.j("/nowhere", &[option]).await, version);
    }
}

#[tokio::test]
async fn help_shows_the_tree_and_the_verbs() {
    let bench = Bench::everything().await;
    assert_snapshot!(bench.j(&["--help"]).await, @r"
    Use a device: its commands are those of the device's tree

    Usage: j [OPTIONS] <PATH… VERB>

    Commands:
      power        relay 1
      echo         network
      console      serial
      flasher      flasher
      rack         the upper one
      switch       power
      tree         Shows the device's tree of drivers
      call         Calls a method by its name and prints the answer
      stream       Connects standard input and output to a driver, or prints the values that a method streams
      log          Follows the exporter's log
      status       Shows the exporter's state and address
      reset        Resets every driver of the device
      completions  Prints a script with which a shell completes the device's paths and verbs

    Options:
          --exporter-config <FILE>
              The exporter file

          --exporter <ALIAS>
              The alias of an exporter file in ~/.config/jumpstarter/exporters or /etc/jumpstarter/exporters

          --tls-grpc <HOST:PORT>
              Use the exporter at this address

          --tls-grpc-insecure
              Connect without TLS

          --tls-ca <PEM>
              Trust these certificate authorities instead of the system's

          --tls-cert <PEM>
              The client's certificate

          --tls-key <PEM>
              The certificate's private key

          --passphrase <PASSPHRASE>
              The exporter's passphrase; JMP_GRPC_PASSPHRASE keeps it out of the process list

          --log-level <LEVEL>
              Minimum level to log [default: info; warning for `j` and `jmp forward`]

              [possible values: debug, info, warning, error]

          --log-format <FORMAT>
              Log format on standard error [default: text]

              Possible values:
              - text: For people
              - json: One JSON object a line
              - auto: Text on a terminal, else JSON

          --output <FORMAT>
              How to print answers, text by default; json is one value a line, errors too

              Possible values:
              - text: For people
              - json: For programs

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Client of a lab:
          --client <ALIAS>
              Use the client with this alias in ~/.config/jumpstarter/clients [default: the current one]

          --client-config <FILE>
              Use the client of this file

    Device of a lab:
      -l, --selector <LABELS>
              A device whose exporter has these labels, such as board=rpi4

      -n, --name <EXPORTER>
              The device of this exporter

          --lease <LEASE>
              The device of a lease that exists and that --selector and --name match; it is not released at the end

          --duration <TIME>
              How long the device is wanted: seconds, or a time such as 30m, 1d3h or 01:30:00

              [default: 30m]

          --acquisition-timeout <TIME>
              How long a device is waited for [default: that of the client's file, 2h]

          --retry-timeout <TIME>
              How long to lease other devices for if one cannot be reached; 0 gives up at once [default: that of the client's file, 5m]

          --dial-timeout <TIME>
              How long one connection waits for its exporter [default: that of the client's file, 60s]

    Without an option that names a device, `j` uses the exporter at JUMPSTARTER_HOST (which `jmp shell`
    sets), else the lease JMP_LEASE, else a new lease with the labels JMP_SELECTOR, else the exporter
    file JMP_EXPORTER_CONFIG, else the client's active lease. A command opens the device of a file and
    closes it again; `--help` does not open it. A new lease ends with the command. Options may stand
    anywhere; those for a device of a lab stand before the first word of the command.

    Examples:
      j tree                           shows the device's tree of drivers
      j power on                       calls a verb of a driver
      j qemu power cycle --wait 5      a driver below another one; `j qemu.power cycle` is the same
      j qemu power --help              shows what a driver can do
      j call qemu.power on             calls any method by its name
      j power on --exporter lab        uses the device of the exporter file `lab`
      j -l board=rpi4 power on         leases a device of a lab for the command

    Exit codes:
      0    success
      1    the device, or one of its drivers, reports an error
      2    the command line is wrong: an unknown path, command, option or argument
      3    the device cannot be reached or opened, or the connection is lost
      130  Ctrl-C ended it (143: SIGTERM); the call was cancelled on the device
    ");
    assert_snapshot!(bench.j(&["rack", "shelf", "--help"]).await, @r"
    a group of drivers

    Usage: j rack shelf [OPTIONS] <VERB>

    Commands:
      power  power

    Options:
          --output <FORMAT>
              How to print answers, text by default; json is one value a line, errors too

              Possible values:
              - text: For people
              - json: For programs

      -h, --help
              Print help (see a summary with '-h')
    ");
    assert_snapshot!(bench.j(&["power", "--help"]).await, @r"
    relay 1

    Usage: j power [OPTIONS] <VERB>

    Commands:
      on     Applies power
      off    Cuts power
      cycle  Cuts power, waits, and applies it again
      read   Streams readings of the power meter until dropped

    Options:
          --output <FORMAT>
              How to print answers, text by default; json is one value a line, errors too

              Possible values:
              - text: For people
              - json: For programs

      -h, --help
              Print help (see a summary with '-h')
    ");
}

#[tokio::test]
async fn the_exporter_files_own_words_replace_the_help_of_methods() {
    let bench = Bench::everything().await;
    assert_snapshot!(bench.j(&["rack", "shelf", "power", "--help"]).await, @r"
    power

    Usage: j rack shelf power [OPTIONS] <VERB>

    Commands:
      on     Lights the shelf
      off    Cuts power
      cycle  Cuts power, waits, and applies it again
      read   Asks the shelf's meter

    Options:
          --output <FORMAT>
              How to print answers, text by default; json is one value a line, errors too

              Possible values:
              - text: For people
              - json: For programs

      -h, --help
              Print help (see a summary with '-h')
    ");
    assert_snapshot!(bench.j(&["switch", "read", "--help"]).await, @r#"
    Asks the shelf's meter

    Usage: j switch read [OPTIONS]

    Options:
      -n, --count <NUMBER>
              How often to ask the meter, 1 by default; 0 continues until Ctrl-C

      -i, --interval <TIME>
              The wait between two readings: seconds, or a time such as 500ms

              [default: 1]

          --output <FORMAT>
              How to print answers, text by default; json is one value a line, errors too

              Possible values:
              - text: For people
              - json: For programs

      -h, --help
              Print help (see a summary with '-h')

    Shows all readings of each answer: one or several. For a meter whose answer does not end, --count limits the number
    of readings; without --count they are shown until Ctrl-C, and the exit code is 130.

    Examples:
      j switch read
      j switch read --count 5
      j switch read --count 0 --interval 500ms
      j switch read --output json

    JSON: {"voltage": volts, "current": amperes, "apparent_power": volt-amperes} for each reading
    "#);
}

#[tokio::test]
async fn status_and_reset() {
    let bench = Bench::everything().await;
    assert_snapshot!(bench.j(&["status"]).await, @"lab at s: ready");
    assert_snapshot!(bench.j(&["status", "--output", "json"]).await, @r#"{"state":"ready","message":"Ready for commands","name":"lab","address":"s"}"#);
    assert_snapshot!(bench.j(&["reset"]).await, @"");
}
