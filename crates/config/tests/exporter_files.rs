//! Exporter files with drivers of this test: what is read, and what every kind of fault says.

use std::collections::BTreeMap;

use insta::assert_snapshot;
use jumpstarter_config::{ExporterConfig, OnFailure, schema};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{ConfigProblem, Planned, Registry};

/// A board with everything that a configuration may have.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only read from files")]
struct BoardConfig {
    /// The port of the board.
    port: u16,
    /// How much memory it has.
    #[serde(default)]
    mem: Option<ByteSize>,
    /// What opens it.
    #[serde(default)]
    password: Option<Secret>,
    /// How it boots.
    #[serde(default)]
    boot: Boot,
    /// Where its disk is.
    #[serde(default)]
    disk: Option<Disk>,
    /// What is forwarded, by name.
    #[serde(default)]
    forward: BTreeMap<String, Forward>,
    /// More arguments.
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    fast: bool,
    /// Where it is, and where else.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    address: Option<std::net::IpAddr>,
    /// As above.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    other: Option<std::net::IpAddr>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Boot {
    /// From the network.
    Network,
    /// From the disk.
    #[default]
    Disk,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[expect(dead_code, reason = "only read from files")]
enum Disk {
    File { path: String },
    Blank { size: ByteSize },
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only read from files")]
struct Forward {
    #[serde(default)]
    host: u16,
    /// The guest's port.
    guest: u16,
}

struct Board;

impl Driver for Board {}

#[async_trait]
impl DriverConfig for BoardConfig {
    const NAME: &'static str = "test-board";
    const PYTHON_NAMES: &'static [&'static str] = &["acme_driver_board.driver.Board"];
    const SYNONYMS: &'static [(&'static str, &'static str)] =
        &[("memory", "mem"), ("pass", "password"), ("guestport", "guest")];
    type Driver = Board;

    fn check(&self) -> Vec<ConfigProblem> {
        let clash = self.forward.iter().filter(|(_, forward)| forward.host == self.port);
        clash
            .map(|(name, _)| {
                ConfigProblem::new(format!("forward.{name}.host"), "is the board's own port")
                    .with_hint("take another")
            })
            .collect()
    }

    /// Known only after opening.
    fn children(&self) -> Option<Vec<PlannedChild>> {
        None
    }
    async fn open(self, _: OpenContext) -> Result<Board> {
        Ok(Board)
    }
}

register_driver!(BoardConfig);

#[track_caller]
fn faults(text: &str) -> String {
    ExporterConfig::parse(text, "lab.yaml").expect_err("the file has faults").to_string()
}

/// The faults of one board's configuration, which stands in line 5 from column 7.
#[track_caller]
fn of_board(config: &str) -> String {
    let config = config.replace('\n', "\n      ");
    faults(&format!("export:\n  b:\n    type: test-board\n    config:\n      {config}\n"))
}

#[test]
fn a_device_of_which_only_opening_tells() {
    let parse = |text| ExporterConfig::parse(text, "lab.yaml").unwrap();
    assert!(parse("export: {g: {children: {c: {type: composite}}}}").unopened().is_some());
    let board = "export: {g: {children: {b: {type: test-board, config: {port: 1}}}}}";
    assert!(parse(board).unopened().is_none());
}

#[test]
fn a_whole_file() {
    let config = ExporterConfig::parse(
        r#"
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: default, name: demo}
endpoint: controller.example:443
tls: {ca: "", insecure: true}
token: "hunter2"
motd: hello
description: a lab
grpcOptions: {grpc.keepalive_time_ms: 1000}
export:
  z:
    type: acme_driver_board.driver.Board
    description: text
    methods_description: {on: text}
    config: &board {port: 1, mem: 1G, disk: {kind: blank, size: 10M}, log_level: DEBUG}
    children:
      below: {type: test-board, config: {<<: *board, port: 2, fast: True}}
  alias: {ref: z.below, description: other name}
  made: {ref: z.of.itself}
  group: {children: {a: {type: composite, children: {b: {ref: alias}}}}}
hooks:
  beforeLease: {script: "j power on"}
  after_lease: {script: "j power off", timeout: 2min, on_failure: endLease, exec: /bin/bash}
"#,
        "lab.yaml",
    )
    .unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    let names: Vec<&str> = config.export.iter().map(Planned::name).collect();
    assert_eq!(names, ["z", "alias", "made", "group"]);
    let settings = &config.settings;
    assert_eq!(settings.metadata.name, "demo");
    assert_eq!(settings.token.as_ref().unwrap().expose(), "hunter2");
    assert_eq!(settings.hooks.before_lease.as_ref().unwrap().timeout, Span::seconds(120));
    let after = settings.hooks.after_lease.as_ref().unwrap();
    assert_eq!((after.timeout, after.on_failure), (Span::seconds(120), OnFailure::EndLease));
    let board = &config.export[0];
    assert_eq!(
        (board.entry().unwrap().name, board.description(), board.log_level()),
        ("test-board", Some("text"), Some("DEBUG"))
    );
    assert_eq!(board.methods_description(), &[("on".to_owned(), "text".to_owned())]);
    assert_eq!(
        board.config().to_string(),
        r#"{"port":1,"mem":"1G","disk":{"kind":"blank","size":"10M"}}"#
    );
    let config = board.children()[0].config();
    assert_eq!(
        (&config["port"], &config["fast"], &config["mem"]),
        (&2.into(), &true.into(), &"1G".into())
    );
}

#[tokio::test]
async fn opens_what_was_read() {
    let config = ExporterConfig::parse(
        "export: {a: {type: test-board, config: {port: 1}}, b: {ref: a}}",
        "x",
    )
    .unwrap();
    let device = config.open().await.unwrap();
    let paths: Vec<&str> = device.nodes().iter().map(|node| node.path()).collect();
    assert_eq!(paths, ["", "a", "b"]);
    device.close().await.unwrap();
}

#[tokio::test]
async fn a_proxy_may_be_written_as_a_driver_of_python() {
    const PROXY: &str = "jumpstarter_driver_composite.driver.Proxy";
    let text = format!(
        "export: {{a: {{type: test-board, config: {{port: 1}}}}, \
         c: {{type: {PROXY}, config: {{ref: group.b}}}}, \
         group: {{type: composite, children: {{b: {{type: {PROXY}, config: {{ref: a}}}}}}}}}}"
    );
    let device = ExporterConfig::parse(&text, "lab.yaml").unwrap().open().await.unwrap();
    let paths: Vec<&str> = device.nodes().iter().map(|node| node.path()).collect();
    assert_eq!(paths, ["", "a", "c", "group", "group.b"]);
    device.close().await.unwrap();
    let wrong = format!("export:\n  b: {{type: {PROXY}, config: {{ref: x}}}}");
    assert_snapshot!(faults(&wrong), @"lab.yaml:2:70: export.b.ref: nothing is at `x`; there is nothing else to refer to");
}

#[test]
fn fields() {
    assert_snapshot!(of_board("memm: 1G\nport: 7\npassward: hunter2"), @r#"
    lab.yaml:5:7: export.b.config.memm: unknown field; did you mean `mem`?
    lab.yaml:7:7: export.b.config.passward: unknown field; did you mean `password`?
    "#);
    assert_snapshot!(of_board("port: 1\nmemory: 1G\npass: x\nforward: {web: {guest-port: 80}}\nAddress: x"), @r#"
    lab.yaml:6:7: export.b.config.memory: unknown field; did you mean `mem`?
    lab.yaml:7:7: export.b.config.pass: unknown field; did you mean `password`?
    lab.yaml:8:23: export.b.config.forward.web.guest-port: unknown field; did you mean `guest`?
    lab.yaml:9:7: export.b.config.Address: unknown field; did you mean `address`?
    "#);
    assert_snapshot!(of_board("mem: 1G"), @"lab.yaml:4:5: export.b.config.port: missing required field; expected a whole number from 0 to 65535: The port of the board");
    assert_snapshot!(of_board("port: eighty\nfast: yes\nargs: -x\nmem: [1]"), @r#"
    lab.yaml:5:13: export.b.config.port: found the text "eighty", expected a whole number from 0 to 65535
    lab.yaml:6:13: export.b.config.fast: found the text "yes", expected `true` or `false`; write `true`
    lab.yaml:7:13: export.b.config.args: found the text "-x", expected a list
    lab.yaml:8:12: export.b.config.mem: found a list, expected a size such as 512M or 20G, or a number of bytes
    "#);
    assert_snapshot!(of_board("port: 65536\npassword: 1234\nargs: [a, 5]"), @r#"
    lab.yaml:5:13: export.b.config.port: found the number 65536, expected a whole number from 0 to 65535
    lab.yaml:6:17: export.b.config.password: found a number, expected text, `{env: NAME}` or `{file: PATH}`; put it in quotes
    lab.yaml:7:17: export.b.config.args[1]: found the number 5, expected text; put it in quotes
    "#);
    assert_snapshot!(of_board("port: 1.5\nmem: -1\nboot: dsik"), @r#"
    lab.yaml:5:13: export.b.config.port: found the number 1.5, expected a whole number from 0 to 65535
    lab.yaml:6:12: export.b.config.mem: found the number -1, expected a size such as 512M or 20G, or a number of bytes
    lab.yaml:7:13: export.b.config.boot: found the text "dsik", expected one of `network` and `disk`; did you mean `disk`?
    "#);
    assert_snapshot!(of_board("port: '80'\nboot: floppy\nforward: {web: {gues: 80}, ssh: [22]}"), @r#"
    lab.yaml:5:13: export.b.config.port: found the text "80", expected a whole number from 0 to 65535; write it without quotes
    lab.yaml:6:13: export.b.config.boot: found the text "floppy", expected one of `network` and `disk`; `network`: From the network; `disk`: From the disk
    lab.yaml:7:23: export.b.config.forward.web.gues: unknown field; did you mean `guest`?
    lab.yaml:7:39: export.b.config.forward.ssh: found a list, expected a mapping
    "#);
}

#[test]
fn alternatives() {
    assert_snapshot!(of_board("port: 1\ndisk: {kind: flie, path: x}"), @r#"lab.yaml:6:20: export.b.config.disk.kind: found the text "flie", expected one of `file` and `blank`; did you mean `file`?"#);
    assert_snapshot!(of_board("port: 1\ndisk: {path: x}"), @"lab.yaml:6:7: export.b.config.disk.kind: missing required field; expected one of `file` and `blank`");
    assert_snapshot!(of_board("port: 1\ndisk: {kind: file, pth: x}"), @r#"
    lab.yaml:6:26: export.b.config.disk.pth: unknown field; did you mean `path`?
    "#);
    assert_snapshot!(of_board("port: 1\ndisk: big"), @r#"lab.yaml:6:13: export.b.config.disk: found the text "big", expected a mapping"#);
}

#[test]
fn beyond_the_schema() {
    assert_snapshot!(of_board("port: 1\nmem: 12Q"), @"lab.yaml:6:12: export.b.config.mem: `12Q` is not a size: unknown unit `q`; expected a size such as 512M, 20G or 1.5GiB");
    assert_snapshot!(of_board("port: 1\naddress: here\nother: there\nmem: 1Q"), @r#"
    lab.yaml:6:16: export.b.config.address: invalid IP address syntax
    lab.yaml:7:14: export.b.config.other: invalid IP address syntax
    lab.yaml:8:12: export.b.config.mem: `1Q` is not a size: unknown unit `q`; expected a size such as 512M, 20G or 1.5GiB
    "#);
    assert_snapshot!(of_board("address: here\nmem: 1Q"), @r#"
    lab.yaml:4:5: export.b.config.port: missing required field; expected a whole number from 0 to 65535: The port of the board
    lab.yaml:6:12: export.b.config.mem: `1Q` is not a size: unknown unit `q`; expected a size such as 512M, 20G or 1.5GiB
    "#);
    assert_snapshot!(of_board("port: 8080\nforward:\n  web: {host: 8080, guest: 80}\n  ssh: {host: 1, guest: 22}\n  b: {host: 8080, guest: 1}"), @r#"
    lab.yaml:7:21: export.b.config.forward.web.host: is the board's own port; take another
    lab.yaml:9:19: export.b.config.forward.b.host: is the board's own port; take another
    "#);
}

#[test]
fn entries() {
    assert_snapshot!(faults("export: {b: {type: test-bord}, c: {type: Board}, d: {type: acme_drivers.driver.Bord}, e: {type: nothing-like-it}}"), @r#"
    lab.yaml:1:20: export.b.type: there is no driver `test-bord` in this program; did you mean `test-board`?
    lab.yaml:1:42: export.c.type: there is no driver `Board` in this program; did you mean `acme_driver_board.driver.Board`?
    lab.yaml:1:60: export.d.type: there is no driver `acme_drivers.driver.Bord` in this program; did you mean `acme_driver_board.driver.Board`?
    lab.yaml:1:97: export.e.type: there is no driver `nothing-like-it` in this program; there are `composite` and `test-board`; a driver of another crate is in that crate's program, such as `acme-relay-jmp`
    "#);
    assert_snapshot!(faults("export:\n  b:\n    type: test-board\n    chidren: {}\n"), @r#"
    lab.yaml:2:3: export.b.config.port: missing required field; expected a whole number from 0 to 65535: The port of the board
    lab.yaml:4:5: export.b.chidren: unknown field; did you mean `children`?
    "#);
    assert_snapshot!(faults("export:\n  b: {tpye: test-board}\n  c: {}\n  d: test-board\n  e:\n  f.g: {children: {}}\n  h: {type: composite, ref: b}\n"), @r#"
    lab.yaml:2:7: export.b.tpye: unknown field; did you mean `type`?
    lab.yaml:3:3: export.c: neither a driver, a proxy nor a group; give it `type: DRIVER`, `ref: PATH` or `children:`
    lab.yaml:4:6: export.d: found the text "test-board", expected a mapping
    lab.yaml:5:4: export.e: found nothing, expected a mapping
    lab.yaml:6:3: export."f.g": a name has no dots, blanks or control characters; the name is a part of paths such as `rack.qemu.power`
    lab.yaml:7:29: export.h.ref: an entry is a driver (`type`) or a proxy (`ref`), not both
    "#);
    assert_snapshot!(faults("export:\n  b:\n    type: composite\n    config: [1]\n    children:\n      c:\n        type: test-board\n        config: {port: no, log_level: LOUD}\n"), @r#"
    lab.yaml:4:13: export.b.config: found a list, expected a mapping
    lab.yaml:8:24: export.b.children.c.config.port: found the text "no", expected a whole number from 0 to 65535
    lab.yaml:8:39: export.b.children.c.config.log_level: found the text "LOUD", expected one of `DEBUG`, `INFO`, `WARNING`, `ERROR` and `CRITICAL`
    "#);
    assert_snapshot!(faults("export: {a: {children: {b: {type: composite, methods_description: {on: 1}}}, type: 5}}"), @r#"
    lab.yaml:1:72: export.a.children.b.methods_description.on: found the number 1, expected text; put it in quotes
    lab.yaml:1:84: export.a.type: found the number 5, expected text; put it in quotes
    "#);
}

#[test]
fn references() {
    assert_snapshot!(faults("export: {a: {children: {power: {type: composite}}}, b: {ref: a.powr}, c: {ref: x.y}}"), @r#"
    lab.yaml:1:62: export.b.ref: nothing is at `a.powr`; did you mean `a.power`? There are `a`, `a.power` and `c`
    lab.yaml:1:80: export.c.ref: nothing is at `x.y`; there are `a`, `a.power` and `b`
    "#);
    assert_snapshot!(faults("export: {a: {ref: b}, b: {ref: c}, c: {ref: a}}"), @"lab.yaml:1:19: export.a.ref: references lead in a circle: `a` → `b` → `c` → `a`");
    assert_snapshot!(faults("export: {a: {ref: a}, g: {children: {x: {ref: g}}}, h: {ref: h.x}}"), @r#"
    lab.yaml:1:19: export.a.ref: references lead in a circle: `a` → `a`
    lab.yaml:1:47: export.g.children.x.ref: references lead in a circle: `g.x` → `g`
    lab.yaml:1:62: export.h.ref: references lead in a circle: `h` → `h.x`
    "#);
    assert_snapshot!(faults("export: {a: {ref: ''}, b: {ref: [x]}}"), @r#"
    lab.yaml:1:19: export.a.ref: must not be empty
    lab.yaml:1:33: export.b.ref: found a list, expected text
    "#);
    // A reference to an entry that is wrong itself is not a second fault.
    assert_eq!(faults("export: {a: {type: nope-nope}, b: {ref: a.x}}").lines().count(), 1);
    // A driver that makes no children, as most.
    assert_snapshot!(faults("export: {a: {type: composite}, b: {ref: a.x}}"), @"lab.yaml:1:41: export.b.ref: nothing is at `a.x`; there are `a`");
    // Below a driver that cannot name its children only opening knows.
    ExporterConfig::parse(
        "export: {a: {type: test-board, config: {port: 1}}, b: {ref: a}, c: {ref: b.x.y}}",
        "x",
    )
    .unwrap();
}

#[test]
fn references_do_not_explode() {
    let mut text = "export:\n  a0: {children: {x: {type: composite}}}\n".to_owned();
    for level in 1..40 {
        text += &format!(
            "  a{level}: {{children: {{x: {{ref: a{0}}}, y: {{ref: a{0}}}}}}}\n",
            level - 1
        );
    }
    assert!(faults(&text).contains("larger than 10000"), "{}", faults(&text));
    let chain: String =
        (1..5000).map(|level| format!("  a{level}: {{ref: a{}}}\n", level - 1)).collect();
    let text = format!("export:\n{chain}  a0: {{type: composite}}\n");
    ExporterConfig::parse(&text, "x").expect("the order of the file makes it shallow");
    let chain: String =
        (1..5000).rev().map(|level| format!("  a{level}: {{ref: a{}}}\n", level - 1)).collect();
    let text = format!("export:\n{chain}  a0: {{type: composite}}\n");
    assert!(faults(&text).contains("too deep"));
}

#[test]
fn settings() {
    assert_snapshot!(faults("apiVersion: jumpstarter.dev/v1\nkind: ClientConfig\nmetadata: {nmae: x}\n"), @r#"
    lab.yaml:1:13: apiVersion: found the text "jumpstarter.dev/v1", expected `jumpstarter.dev/v1alpha1`
    lab.yaml:2:7: kind: found the text "ClientConfig", expected `ExporterConfig`
    lab.yaml:3:12: metadata.nmae: unknown field; did you mean `name`?
    "#);
    assert_snapshot!(faults("tls: {insecure: on}\ntoken: 12345\nexport: [a]\n"), @r#"
    lab.yaml:1:17: tls.insecure: found the text "on", expected `true` or `false`; write `true`
    lab.yaml:2:8: token: found a number, expected text, `{env: NAME}` or `{file: PATH}`; put it in quotes
    lab.yaml:3:9: export: found a list, expected a mapping
    "#);
    assert_snapshot!(faults("hooks:\n  beforeLease: {script: x, onFailure: endlease, timeout: soon}\n  after: {}\n  afterLease: {timeout: 5}\n"), @r#"
    lab.yaml:2:39: hooks.beforeLease.onFailure: found the text "endlease", expected one of `warn`, `endLease` and `exit`; did you mean `endLease`?
    lab.yaml:2:58: hooks.beforeLease.timeout: `soon` is not a time: unknown unit `soon`; expected a time such as 500ms, 30s, 2min or 1h
    lab.yaml:3:3: hooks.after: unknown field; known here: `beforeLease` and `afterLease`
    lab.yaml:4:3: hooks.afterLease.script: missing required field; expected text: What to run: the script's text, or the path of a file
    "#);
    assert_snapshot!(faults("hooks: {beforeLease: {script: x, timeout: soon}}"), @"lab.yaml:1:43: hooks.beforeLease.timeout: `soon` is not a time: unknown unit `soon`; expected a time such as 500ms, 30s, 2min or 1h");
    assert_snapshot!(faults("just text"), @r#"lab.yaml:1:1: found the text "just text", expected a mapping"#);
}

#[test]
fn syntax() {
    assert_snapshot!(faults("export:\n\tb: 1\n"), @"lab.yaml:2:2: not valid YAML: tabs disallowed within this context (block indentation); indent with spaces");
    assert_snapshot!(faults("export:\n  b:\n    type: x\n   config: {}\n"), @"lab.yaml:4:4: not valid YAML: while parsing a block mapping, did not find expected key; check the indentation, brackets and `:` of this line and the one before");
    assert_snapshot!(faults("export: {a: [1, 2}\n"), @"lab.yaml:1:18: not valid YAML: while parsing a flow sequence, expected ',' or ']'; check the indentation, brackets and `:` of this line and the one before");
    assert_snapshot!(faults("motd: \"no end\n"), @"lab.yaml:1:7: not valid YAML: while scanning a quoted scalar, found unexpected end of stream");
    assert_snapshot!(faults("motd: a: b\n"), @"lab.yaml:1:8: not valid YAML: mapping values are not allowed in this context; put text that has `: ` in it in quotes");
    assert_snapshot!(faults("export:\n  a: {type: composite}\n  a: {type: composite}\nmotd: 007\n"), @r#"
    lab.yaml:3:3: export.a: duplicate key; the first is in line 2
    lab.yaml:4:7: motd: `007` is octal in YAML 1.1 and decimal in YAML 1.2; write `7`, `0o7` for octal, or "007" in quotes for text
    "#);
}

#[test]
fn files() {
    let missing = ExporterConfig::load("/nonexistent/lab.yaml").unwrap_err();
    assert_snapshot!(missing.to_string(), @"/nonexistent/lab.yaml: cannot be read: No such file or directory (os error 2)");
    let faults = ExporterConfig::parse("tls: {inscure: 1}", "lab.yaml").unwrap_err();
    assert_snapshot!(faults.to_json().to_string(), @r#"{"file":"lab.yaml","faults":[{"line":1,"column":7,"path":"tls.inscure","message":"unknown field","hint":"did you mean `insecure`?"}]}"#);
    assert_eq!(faults.iter().map(|fault| fault.column).collect::<Vec<_>>(), [7]);
}

/// Files of newer exporters: unknown fields at the top are reported, and the rest is used.
#[test]
fn unknown_fields_at_the_top_are_warnings() {
    let text = "futureField: {a: 1}\nmetadata: {name: x}\nexitOnLeaseEnd: true\nexprot: 5\nfailure_detection: {}\n";
    let config = ExporterConfig::parse(text, "lab.yaml").unwrap();
    assert_snapshot!(config.warnings.to_text("lab.yaml"), @r#"
    lab.yaml:1:1: warning: futureField: unknown field; known here: `apiVersion`, `kind`, `metadata`, `endpoint`, `tls`, `token`, `grpcOptions`, `motd`, `description`, `hooks`, `failureDetection`, `exitOnLeaseEnd`, `python`, `alias`, `path` and `export`
    lab.yaml:4:1: warning: exprot: unknown field; did you mean `export`?
    lab.yaml:5:1: warning: failure_detection: unknown field; did you mean `failureDetection`?
    "#);
    assert!(config.settings.exit_on_lease_end && config.settings.metadata.name == "x");
    let config = ExporterConfig::parse("power: {type: test-board}", "lab.yaml").unwrap();
    assert_snapshot!(config.warnings.to_text("lab.yaml"), @"lab.yaml:1:1: warning: power: unknown field; a driver is written under `export:`, as `export: {power: …}`");
    // One below the top is a fault, beside which the warning is not repeated.
    let below = faults("futureField: 1\nmetadata: {name: x, labels: {}}\n");
    assert_snapshot!(below, @"lab.yaml:2:21: metadata.labels: unknown field; known here: `namespace` and `name`");
}

/// Whatever is typed or lost anywhere, the answer is a device or faults in the order of the file.
#[test]
fn damaged_files() {
    let whole = "metadata: {name: x}\nexport:\n  b: &a\n    type: test-board\n    config:\n      port: 1\n      \
                 args: [a, 'b', \"c\"]\n  c: {<<: *a, description: |-\n    é}\n  d: {ref: b.c}\n";
    let places: Vec<usize> = whole.char_indices().map(|(index, _)| index).collect();
    for place in places {
        let (before, after) = whole.split_at(place);
        let lost = after.chars().next().map_or(0, char::len_utf8);
        let mut texts = vec![before.to_owned(), format!("{before}{}", &after[lost..])];
        let typed = [
            "\t", "\n", "\r", ": ", "- ", "{", "}", "]", "*", "&", "!", "|", "\"", "'", "#", "?",
            "%", "\0", "\u{2028}", "---\n",
        ];
        texts.extend(typed.iter().map(|typed| format!("{before}{typed}{after}")));
        for text in texts {
            if let Err(faults) = ExporterConfig::parse(&text, "x") {
                assert!(
                    faults.len() > 0
                        && faults.iter().all(|fault| fault.line > 0 && fault.column > 0),
                    "{faults}"
                );
                assert!(
                    faults.iter().is_sorted_by_key(|fault| (fault.line, fault.column)),
                    "{faults}"
                );
            }
        }
    }
}

#[test]
fn schema_names_every_driver() {
    let schema = schema(Registry::linked()).unwrap();
    let driver = &schema["$defs"]["entry"]["oneOf"][0];
    let names = driver["properties"]["type"]["enum"].as_array().unwrap();
    assert!(
        names.contains(&"test-board".into())
            && names.contains(&"acme_driver_board.driver.Board".into())
    );
    assert_eq!(schema["$defs"]["driver:test-board"]["properties"]["port"]["maximum"], 65535);
    assert_eq!(schema["$defs"]["Secret"]["writeOnly"], true);
    assert!(schema["$defs"]["driver:test-board"]["properties"]["mem"].get("default").is_none());
    assert!(!schema.to_string().contains("\"default\":null"), "{schema}");
    // Also of a driver without fields, as the loader accepts it.
    assert!(schema["$defs"]["driver:composite"]["properties"]["log_level"].is_object());
    assert_eq!(schema["properties"]["export"]["additionalProperties"]["$ref"], "#/$defs/entry");
}

#[test]
fn input_without_end_is_refused_and_not_cut() {
    let faults = ExporterConfig::read(std::io::repeat(b'#'), "standard input").unwrap_err();
    assert_snapshot!(faults.to_string(), @"standard input: cannot be read: it is larger than 1048576 bytes");
    let faults = ExporterConfig::read(&b"export: {}\n\xff"[..], "standard input").unwrap_err();
    assert_snapshot!(faults.to_string(), @"standard input: cannot be read: line 2 is not UTF-8 text");
    assert!(ExporterConfig::read(&b"export: {}"[..], "standard input").unwrap().export.is_empty());
}

#[test]
fn a_file_name_stays_on_its_line() {
    let name = "lab\n2026-01-01 forged";
    let faults = ExporterConfig::parse("export: 1\n", name).unwrap_err().to_string();
    assert!(faults.starts_with("lab\\n2026-01-01 forged:1:9: "), "{faults}");
    let config = ExporterConfig::parse("exprot: 1\nexport: {}\n", name).unwrap();
    let warnings = config.warnings.to_text(name);
    assert!(warnings.starts_with("lab\\n2026-01-01 forged:1:1: "), "{warnings}");
}

#[test]
fn many_keys_are_read_in_a_moment() {
    let keys: String = (0..50_000).map(|key| format!("  k{key}: 1\n")).collect();
    let text = format!("x: &x\n{keys}y: {{<<: *x, l: 1}}\nexport: {{}}\n");
    let start = std::time::Instant::now();
    ExporterConfig::parse(&text, "lab.yaml").unwrap();
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
}
