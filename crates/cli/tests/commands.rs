//! What the commands print when all is well, and the rest of the command line.

mod support;

use std::io::{self, Write};
use std::path::Path;

use insta::assert_snapshot;
use support::{check, jmp};

const LAB: &str = "
export:
  rack:
    description: the upper one
    children:
      web: {type: tcp, config: {host: localhost, port: 80}}
      power:
        type: jumpstarter_driver_power.driver.MockPower
        description: relay 1
  console: {type: serial, config: {url: 'loop://'}}
  switch: {ref: rack.power}
";

#[test]
fn a_right_file() {
    assert_snapshot!(check(LAB), @r#"
    lab.yaml: no faults
    rack                             the upper one
    ├─ web    tcp           network
    └─ power  mock-power    power    relay 1
    console   serial        serial
    switch    → rack.power
    exit code 0
    "#);
}

/// What drivers make themselves is there, too.
#[test]
fn the_children_that_a_driver_makes() {
    let file = "export: {vm: {type: qemu, config: {hostfwd: {web: {guestport: 80}}}, children: {led: {type: mock-power}}}}";
    assert_snapshot!(check(file), @r"
    lab.yaml: no faults
    vm          qemu        machine, qemu
    ├─ power                power
    ├─ flasher              flasher, oci_flasher
    ├─ console              serial
    ├─ vnc                  network
    ├─ ssh                  network
    ├─ web                  network
    └─ led      mock-power  power
    exit code 0
    ");
    let (_, page, _) = jmp(&["drivers", "qemu"]);
    for line in [
        "  accel  one of `auto`, `kvm`, `tcg` and `hvf`  default \"auto\"  What executes the guest's instructions",
        "    kvm  Linux's KVM: near native speed; needs a guest of the host's architecture",
        "Children that it makes, without a configuration",
        "  flasher  flasher, oci_flasher",
    ] {
        let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(page.lines().any(|other| plain(other) == plain(line)), "{line}: {page}");
    }
    let (_, out, _) = jmp(&["drivers", "qemu", "--output", "json"]);
    let page: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(page["children"][0], serde_json::json!({"name": "power", "interfaces": ["power"]}));
    let accel = page["configuration"]
        .as_array()
        .unwrap()
        .iter()
        .find(|field| field["path"] == "accel")
        .unwrap();
    assert_eq!(accel["values"][2]["value"], "tcg");
}

#[test]
fn json_has_the_same_fields_for_right_and_wrong_files() {
    let folder = tempfile::tempdir().unwrap();
    let (right, wrong) = (folder.path().join("right.yaml"), folder.path().join("wrong.yaml"));
    std::fs::write(&right, format!("{LAB}\nfuture: 1\n")).unwrap();
    std::fs::write(&wrong, "exprot: {}\nmetadata: {nam: x}").unwrap();
    let (code, out, err) =
        jmp(&["check", right.to_str().unwrap(), wrong.to_str().unwrap(), "--output", "json"]);
    assert_eq!((code, err.as_str()), (1, ""));
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report[0]["faults"], serde_json::json!([]));
    assert_eq!(
        report[0]["export"]["rack"]["children"]["web"]["interfaces"],
        serde_json::json!(["network"])
    );
    assert_eq!(report[0]["warnings"][0]["path"], "future");
    // Entries of every kind have the same fields.
    let rack = &report[0]["export"]["rack"];
    for entry in [rack, &rack["children"]["power"], &report[0]["export"]["switch"]] {
        let fields: Vec<&String> = entry.as_object().unwrap().keys().collect();
        assert_eq!(
            fields,
            ["type", "hosted", "ref", "interfaces", "description", "children"],
            "{entry}"
        );
    }
    assert_eq!(report[1]["faults"][0]["path"], "metadata.nam");
    assert_eq!(report[1]["faults"][0]["hint"], "did you mean `name`?");
    assert_eq!(report[1]["warnings"], serde_json::json!([]));
    assert_eq!(report[1]["export"], serde_json::Value::Null);
}

#[test]
fn one_driver() {
    let (code, out, _) = jmp(&["drivers", "jumpstarter_driver_network.driver.TcpNetwork"]);
    assert_eq!(code, 0);
    assert_snapshot!(out, @r#"
    tcp
    A TCP endpoint that this machine can reach.

    Also as jumpstarter_driver_network.driver.TcpNetwork

    Configuration
      host             text                                                required        Host name or IP address
      port             a whole number from 1 to 65535                      required        TCP port
      enable_address   `true` or `false`                                   default true    Whether clients may ask for the address
      connect_timeout  a time such as 30s or 2min, or a number of seconds  default "10 s"  How long connecting may take, all addresses of the host together

    Interface network: Reaches a network endpoint of a device
      connect() → bytes both ways  Connects. `Unavailable` if nothing answers. Dropping the channel closes the connection
      address() → String           Returns the endpoint's address, such as `tcp://127.0.0.1:8080`. `Unimplemented` if it has no address, `InvalidArgument` if the configuration hides it
    "#);
}

#[test]
fn unknown_driver() {
    let (code, out, err) = jmp(&["drivers", "tpc"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert_snapshot!(err, @r#"
    error: there is no driver `tpc`
    hint: did you mean `tcp`?
    "#);
}

#[test]
fn every_driver_is_documented() {
    let (_, out, _) = jmp(&["drivers", "--output", "json"]);
    let drivers: Vec<serde_json::Value> = serde_json::from_str(&out).unwrap();
    assert!(drivers.len() >= 5, "{out}");
    for driver in &drivers {
        assert_ne!(driver["documentation"], "", "{}", driver["name"]);
        for field in driver["configuration"].as_array().unwrap() {
            assert_ne!(field["documentation"], "", "{}: {}", driver["name"], field["path"]);
        }
        for interface in driver["interfaces"].as_array().unwrap() {
            for method in interface["methods"].as_array().unwrap() {
                assert_ne!(method["documentation"], "", "{}: {}", driver["name"], method["name"]);
            }
        }
        let (code, page, _) = jmp(&["drivers", driver["name"].as_str().unwrap()]);
        assert!(code == 0 && page.contains("Configuration"), "{page}");
    }
}

/// A crate that no code names is left out by the linker.
#[test]
fn every_driver_crate_is_linked() {
    let (_, out, _) = jmp(&["drivers", "--output", "json"]);
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut with_drivers = 0;
    for folder in std::fs::read_dir(crates).unwrap() {
        let folder = folder.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let helps_tests = ["driver-core-macros", "driver-testkit"].contains(&name.as_str());
        if name.starts_with("driver-") && !helps_tests {
            with_drivers += 1;
            assert!(
                out.contains(&format!("\"package\": \"jumpstarter-{name}\"")),
                "{name} is not linked"
            );
        }
    }
    assert!(with_drivers >= 6);
}

#[test]
fn the_schema_accepts_every_name() {
    let (code, out, _) = jmp(&["schema"]);
    assert_eq!(code, 0);
    let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let names = schema["$defs"]["entry"]["oneOf"][0]["properties"]["type"]["anyOf"][0]["enum"]
        .as_array()
        .unwrap();
    for name in ["tcp", "qemu", "jumpstarter_driver_qemu.driver.Qemu", "mock-power"] {
        assert!(names.contains(&name.into()), "{name}");
    }
    // The YAML language server stops completing at the first.
    assert!(!out.contains("\"default\": null"));
    // Every reference leads somewhere.
    for reference in out.split("\"$ref\": \"#/$defs/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schema["$defs"].get(name).is_some(), "{name}");
    }
}

/// A program that asks for JSON gets its errors so, too.
#[test]
fn errors_as_json() {
    let (code, out, err) = jmp(&["drivers", "tcpp", "--output", "json"]);
    assert_eq!((code, out.as_str()), (1, ""));
    let error: serde_json::Value = serde_json::from_str(&err).unwrap();
    assert_eq!(error["error"], "there is no driver `tcpp`");
    assert_eq!(
        (&error["kind"], &error["hint"]),
        (&"NotFound".into(), &"did you mean `tcp`?".into())
    );
}

#[test]
fn help_and_wrong_usage() {
    let (code, out, err) = jmp(&["--help"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("jmp check lab.yaml") && out.contains("A first file:"), "{out}");
    let (code, out, _) = jmp(&["check", "--help"]);
    assert_eq!(code, 0);
    assert!(out.contains("jmp check lab.yaml") && out.contains("Exit code"), "{out}");
    let (code, out, err) = jmp(&["chekc"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("'check'"), "{err}");
}

/// A stream whose reader has gone.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_reader_makes_no_failure_a_success() {
    let folder = tempfile::tempdir().unwrap();
    let [right, wrong] = ["right", "wrong"].map(|name| folder.path().join(name));
    std::fs::write(&right, "export: {power: {type: mock-power}}").unwrap();
    std::fs::write(&wrong, "export: {power: {type: none}}").unwrap();
    let [right, wrong] = [right, wrong].map(|path| path.to_str().unwrap().to_owned());
    let closed_out = jumpstarter_cli::Environment::new(Closed, io::sink(), |_| None);
    let closed_err = jumpstarter_cli::Environment::new(io::sink(), Closed, |_| None);
    for environment in [closed_out, closed_err] {
        for (files, code) in [([&wrong, &right], 1), ([&right, &wrong], 1), ([&right, &right], 0)] {
            let words = ["jmp", "check", files[0], files[1]];
            assert_eq!(jumpstarter_cli::run(words, &environment), code, "{words:?}");
        }
    }
}

#[test]
fn a_closed_reader_ends_it_quietly() {
    let (mut errors, err) = io::pipe().unwrap();
    let environment = jumpstarter_cli::Environment::new(Closed, err, |_| None);
    assert_eq!(jumpstarter_cli::run(["jmp", "schema"], &environment), 0);
    drop(environment);
    assert_eq!(io::read_to_string(&mut errors).unwrap(), "");
}

#[test]
fn the_version_in_upstreams_forms() {
    let version = env!("CARGO_PKG_VERSION");
    let (code, out, _) = support::jmp(&["version"]);
    assert!(code == 0 && out.starts_with(&format!("Jumpstarter v{version} from ")), "{out}");
    for word in ["version", "ver", "v"] {
        let (_, out, _) = support::jmp(&[word, "-o", "json"]);
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["gitVersion"], version);
    }
    let (_, out, _) = support::jmp(&["driver", "version", "-o", "yaml"]);
    assert!(out.contains("gitVersion: "), "{out}");
    assert_eq!(support::jmp(&["version", "-o", "name"]).1, format!("v{version}\n"));
}

#[test]
fn the_drivers_in_upstreams_form() {
    let (code, out, _) = support::jmp(&["driver", "list"]);
    assert_eq!(code, 0);
    assert!(out.starts_with("NAME") && out.lines().next().unwrap().ends_with("TYPE"), "{out}");
    let is_listed = |line: &str| {
        line.starts_with("TcpNetwork ")
            && line.ends_with(" jumpstarter_driver_network.driver.TcpNetwork")
    };
    assert!(out.lines().any(is_listed), "{out}");
    assert_eq!(support::jmp(&["driver", "ls"]).1, out);
}
