//! What `jmp check` says about wrong exporter files: one test a mistake.

mod support;

use insta::assert_snapshot;
use support::check;

#[test]
fn unknown_field() {
    assert_snapshot!(check("
export:
  vm:
    type: qemu
    config: {memm: 1G, hostfwd: {web: {guestport: 80, hostprot: 8080}}}
"), @r#"
lab.yaml:5:14: export.vm.config.memm: unknown field; did you mean `mem`?
lab.yaml:5:55: export.vm.config.hostfwd.web.hostprot: unknown field; did you mean `hostport`?
exit code 1
"#);
}

#[test]
fn missing_field() {
    assert_snapshot!(check("
export:
  web:
    type: tcp
    config:
      host: localhost
  console: {type: serial}
"), @r#"
lab.yaml:5:5: export.web.config.port: missing required field; expected a whole number from 1 to 65535: TCP port
lab.yaml:7:3: export.console.config.url: missing required field; expected text: Address of the port, such as `/dev/ttyUSB0`, `rfc2217://host:port` or `socket://host:port`
exit code 1
"#);
}

#[test]
fn wrong_type() {
    assert_snapshot!(check("
export:
  web:
    type: jumpstarter_driver_network.driver.TcpNetwork
    config: {host: [localhost], port: http, enable_address: yes}
"), @r#"
lab.yaml:5:20: export.web.config.host: found a list, expected text
lab.yaml:5:39: export.web.config.port: found the text "http", expected a whole number from 1 to 65535
lab.yaml:5:61: export.web.config.enable_address: found the text "yes", expected `true` or `false`; write `true`
exit code 1
"#);
}

#[test]
fn port_out_of_range() {
    assert_snapshot!(check("
export:
  a: {type: tcp, config: {host: localhost, port: 65536}}
  b: {type: tcp, config: {host: localhost, port: 0}}
"), @r#"
lab.yaml:3:50: export.a.config.port: found the number 65536, expected a whole number from 1 to 65535
lab.yaml:4:50: export.b.config.port: found the number 0, expected a whole number from 1 to 65535
exit code 1
"#);
}

#[test]
fn unknown_driver() {
    assert_snapshot!(check("
export:
  a: {type: qmeu}
  c: {type: TcpNetwork, config: {host: localhost, port: 1}}
"), @r#"
lab.yaml:3:13: export.a.type: there is no driver `qmeu` in this program; did you mean `qemu`?
lab.yaml:4:13: export.c.type: there is no driver `TcpNetwork` in this program; did you mean `jumpstarter_driver_network.driver.TcpNetwork`?
exit code 1
"#);
}

#[test]
fn bad_size() {
    assert_snapshot!(check("
export:
  vm: {type: qemu, config: {mem: 12 potatoes}}
  vm2: {type: qemu, config: {mem: -1, disk_size: {gib: 2}}}
"), @r#"
lab.yaml:3:34: export.vm.config.mem: `12 potatoes` is not a size: unknown unit `potatoes`; expected a size such as 512M, 20G or 1.5GiB
lab.yaml:4:35: export.vm2.config.mem: found the number -1, expected a size such as 512M or 20G, or a number of bytes
lab.yaml:4:50: export.vm2.config.disk_size: found a mapping, expected a size such as 512M or 20G, or a number of bytes
exit code 1
"#);
}

#[test]
fn bad_choice() {
    assert_snapshot!(check("
export:
  vm: {type: qemu, config: {arch: x86, accel: KVM}}
"), @r#"
lab.yaml:3:35: export.vm.config.arch: found the text "x86", expected one of `x86_64` and `aarch64`; `x86_64`: Intel and AMD, 64 bits; `aarch64`: ARM, 64 bits
lab.yaml:3:47: export.vm.config.accel: found the text "KVM", expected one of `auto`, `kvm`, `tcg` and `hvf`; did you mean `kvm`?
exit code 1
"#);
}

#[test]
fn secrets_are_not_shown() {
    let said = check(
        "
token: 271828
export:
  vm: {type: qemu, config: {password: 314159}}
",
    );
    assert!(!said.contains("271828") && !said.contains("314159"), "{said}");
    assert_snapshot!(said, @r#"
    lab.yaml:2:8: token: found a number, expected text, `{env: NAME}` or `{file: PATH}`; put it in quotes
    lab.yaml:4:39: export.vm.config.password: found a number, expected text, `{env: NAME}` or `{file: PATH}`; put it in quotes
    exit code 1
    "#);
}

#[test]
fn bad_yaml() {
    assert_snapshot!(check("
export:
  web:
    type: tcp
   config: {}
"), @r#"
lab.yaml:5:4: not valid YAML: while parsing a block mapping, did not find expected key; check the indentation, brackets and `:` of this line and the one before
exit code 1
"#);
    assert_snapshot!(check("export:\n\tweb: {type: tcp}\n"), @r#"
    lab.yaml:2:2: not valid YAML: tabs disallowed within this context (block indentation); indent with spaces
    exit code 1
    "#);
}

#[test]
fn duplicate_key() {
    assert_snapshot!(check("
export:
  power: {type: mock-power}
  power: {type: mock-power}
"), @r#"
lab.yaml:4:3: export.power: duplicate key; the first is in line 3
exit code 1
"#);
}

#[test]
fn dangling_reference() {
    assert_snapshot!(check("
export:
  rack:
    children:
      power: {type: mock-power}
  alias: {ref: rack.pwoer}
"), @r#"
lab.yaml:6:16: export.alias.ref: nothing is at `rack.pwoer`; did you mean `rack.power`? There are `rack` and `rack.power`
exit code 1
"#);
}

#[test]
fn dangling_reference_below_a_driver() {
    assert_snapshot!(check("
export:
  vm: {type: qemu, config: {hostfwd: {web: {guestport: 80}}}}
  mains: {type: mock-power}
  power: {ref: vm.pwoer}
  web: {ref: vm.web}
  plug: {ref: mains.plug}
"), @r#"
lab.yaml:5:16: export.power.ref: nothing is at `vm.pwoer`; did you mean `vm.power`? There are `vm`, `vm.power`, `vm.flasher`, `vm.console`, `vm.vnc`, `vm.ssh`, `vm.web`, `mains`, `web` and `plug`
lab.yaml:7:15: export.plug.ref: nothing is at `mains.plug`; there are `vm`, `vm.power`, `vm.flasher`, `vm.console`, `vm.vnc`, `vm.ssh`, `vm.web`, `mains`, `power` and `web`
exit code 1
"#);
}

#[test]
fn circle_of_references() {
    assert_snapshot!(check("
export:
  a: {ref: b}
  b: {ref: a}
"), @r#"
lab.yaml:3:12: export.a.ref: references lead in a circle: `a` → `b` → `a`
exit code 1
"#);
}

#[test]
fn unknown_top_level_key() {
    assert_snapshot!(check("
exports:
  power: {type: mock-power}
"), @r#"
lab.yaml: no faults
lab.yaml:2:1: warning: exports: unknown field; did you mean `export`?
exit code 0
"#);
}

#[test]
fn wrong_version_and_kind() {
    assert_snapshot!(check("
apiVersion: jumpstarter.dev/v1alpha2
kind: ClientConfig
metadata: {namespace: default}
"), @r#"
lab.yaml:2:13: apiVersion: found the text "jumpstarter.dev/v1alpha2", expected `jumpstarter.dev/v1alpha1`; did you mean `jumpstarter.dev/v1alpha1`?
lab.yaml:3:7: kind: found the text "ClientConfig", expected `ExporterConfig`
lab.yaml:4:1: metadata.name: missing required field; expected text: The name in that namespace
exit code 1
"#);
}

#[test]
fn bad_hooks() {
    assert_snapshot!(check("
hooks:
  beforeLease: {script: j power on, onFailure: endlease}
  afterlease: {script: j power off}
"), @r#"
lab.yaml:3:48: hooks.beforeLease.onFailure: found the text "endlease", expected one of `warn`, `endLease` and `exit`; did you mean `endLease`?
lab.yaml:4:3: hooks.afterlease: unknown field; did you mean `afterLease`?
exit code 1
"#);
}

#[test]
fn fault_in_a_child_of_a_driver() {
    assert_snapshot!(check("
export:
  rack:
    type: composite
    children:
      board:
        type: mock-power
        config: {voltage: 5}
        children:
          console: {type: serial, config: {url: 'loop://', baudrate: fast}}
"), @r#"
lab.yaml:8:18: export.rack.children.board.config.voltage: unknown field; there are no fields here
lab.yaml:10:70: export.rack.children.board.children.console.config.baudrate: found the text "fast", expected a whole number (not negative)
exit code 1
"#);
}

#[test]
fn neither_driver_nor_proxy_nor_group() {
    assert_snapshot!(check("
export:
  a: {tipe: tcp}
  b: {}
  c: tcp
  d: {type: tcp, ref: a}
"), @r#"
lab.yaml:3:7: export.a.tipe: unknown field; did you mean `type`?
lab.yaml:4:3: export.b: neither a driver, a proxy nor a group; give it `type: DRIVER`, `ref: PATH` or `children:`
lab.yaml:5:6: export.c: found the text "tcp", expected a mapping
lab.yaml:6:23: export.d.ref: an entry is a driver (`type`) or a proxy (`ref`), not both
exit code 1
"#);
}

#[test]
fn driver_checks_itself() {
    assert_snapshot!(check("
export:
  console: {type: serial, config: {url: 'loop://', baudrate: 0}}
  vm:
    type: qemu
    config:
      smp: 0
"), @r#"
lab.yaml:3:62: export.console.config.baudrate: must be more than 0
lab.yaml:7:12: export.vm.config.smp: 0 CPUs: a machine has 1 to 255
exit code 1
"#);
}

#[test]
fn driver_checks_what_remains_beside_other_faults() {
    assert_snapshot!(check("
export:
  vm:
    type: qemu
    config: {memm: 1G, smp: 0, hostname: 'a b', hostfwd: {web: {guestport: http}}}
  vm2:
    type: qemu
    config: {disk_size: 1Q, default_partitions: {OVMF_VARS.fd: vars}, username: ''}
  vm3:
    type: qemu
    config: {default_partition: {OVMF_CODE.fd: code}, default_partitions: {OVMF_VARS.fd: vars}}
"), @r#"
    lab.yaml:5:14: export.vm.config.memm: unknown field; did you mean `mem`?
    lab.yaml:5:29: export.vm.config.smp: 0 CPUs: a machine has 1 to 255
    lab.yaml:5:42: export.vm.config.hostname: a host name is letters, digits, `-`, `_` and `.`, at most 253 of them
    lab.yaml:5:76: export.vm.config.hostfwd.web.guestport: found the text "http", expected a whole number from 0 to 65535
    lab.yaml:8:25: export.vm2.config.disk_size: `1Q` is not a size: unknown unit `q`; expected a size such as 512M, 20G or 1.5GiB
    lab.yaml:8:64: export.vm2.config.default_partitions.OVMF_VARS.fd: variables without their firmware: set `OVMF_CODE.fd` as well
    lab.yaml:8:81: export.vm2.config.username: a user name is letters, digits, `-`, `_` and `.`, at most 32, no `-` first
    lab.yaml:11:14: export.vm3.config.default_partition: unknown field; did you mean `default_partitions`?
    exit code 1
    "#);
}

#[test]
fn everything_at_once_in_the_order_of_the_file() {
    assert_snapshot!(check("
apiVersion: v1
metadata: {name: lab, labels: {a: b}}
tls: {insecure: 'false'}
export:
  web: {type: tcp, config: {hots: localhost, port: 80800}}
  vm: {type: qemu, config: {smp: two, mem: 1Q}}
  alias: {ref: nowhere}
hooks: {beforeLease: {timeout: 5}}
"), @r#"
lab.yaml:2:13: apiVersion: found the text "v1", expected `jumpstarter.dev/v1alpha1`
lab.yaml:3:23: metadata.labels: unknown field; known here: `namespace` and `name`
lab.yaml:4:17: tls.insecure: found the text "false", expected `true` or `false`; write it without quotes
lab.yaml:6:29: export.web.config.hots: unknown field; did you mean `host`?
lab.yaml:6:52: export.web.config.port: found the number 80800, expected a whole number from 1 to 65535
lab.yaml:7:34: export.vm.config.smp: found the text "two", expected a whole number (not negative)
lab.yaml:7:44: export.vm.config.mem: `1Q` is not a size: unknown unit `q`; expected a size such as 512M, 20G or 1.5GiB
lab.yaml:8:16: export.alias.ref: nothing is at `nowhere`; there are `web` and `vm`
lab.yaml:9:9: hooks.beforeLease.script: missing required field; expected text: What to run: the script's text, or the path of a file
exit code 1
"#);
}

#[test]
fn not_a_file() {
    let (code, out, err) = support::jmp(&["check", "/nonexistent/lab.yaml"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert_snapshot!(err, @"/nonexistent/lab.yaml: cannot be read: No such file or directory (os error 2)");
}
