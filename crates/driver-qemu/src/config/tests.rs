//! The configuration: what is read, and what is refused.

use serde_json::{Value, json};

use super::*;

#[track_caller]
fn check(config: Value, expected: &[&str]) {
    let config: QemuConfig = serde_json::from_value(config).unwrap();
    let fields: Vec<String> = config.problems().into_iter().map(|problem| problem.field).collect();
    assert_eq!(fields, expected);
}

#[test]
fn the_defaults_are_those_of_the_python_driver() {
    let config: QemuConfig = serde_json::from_value(json!({})).unwrap();
    assert_eq!((config.smp, config.mem), (2, ByteSize::mebibytes(512)));
    assert_eq!((config.hostname.as_str(), config.username.as_str()), ("demo", "jumpstarter"));
    assert_eq!(config.password.expose(), "password");
    assert_eq!(config.flash_timeout, Span::seconds(1800));
    assert!(config.problems().is_empty());
}

#[test]
fn a_whole_configuration_is_read() {
    let config = json!({
        "arch": "aarch64", "cpu": "max", "smp": 4, "mem": "2G", "disk_size": "20G", "hostname": "board-1",
        "username": "admin", "password": "hush",
        "default_partitions": {"root": "/r", "bios": "/b", "OVMF_CODE.fd": "/c", "OVMF_VARS.fd": "/v"},
        "hostfwd": {"web": {"protocol": "tcp", "hostaddr": "127.0.0.1", "hostport": 8080, "guestport": 80}},
        "fls_version": "1", "fls_allow_custom_binaries": true, "fls_custom_binary_url": "http://x/",
        "flash_timeout": 60, "flash_limit": "8G", "root_format": "qcow2", "accel": "tcg", "root_writes": "persist", "off": "graceful",
        "extra_args": ["-S"], "binary": "/opt/qemu", "timeouts": {"start": "1min", "command": 2},
    });
    check(config.clone(), &[]);
    let config: QemuConfig = serde_json::from_value(config).unwrap();
    assert_eq!(config.arch, Some(Architecture::Aarch64));
    assert_eq!(config.default_partitions.ovmf_vars.as_deref(), Some("/v".as_ref()));
    assert_eq!(config.timeouts.quit, Span::seconds(5));
    assert!(!format!("{config:?}").contains("hush"));
}

/// As the controller of an ExporterSet writes them.
#[test]
fn a_configuration_of_an_exporter_set_is_read() {
    let config = json!({
        "arch": "x86_64", "smp": "4", "mem": "2G", "disk_size": "20G", "launcher_socket": "/shared/launcher.sock",
        "hostfwd": {"ssh": {"hostaddr": "127.0.0.1", "hostport": 2222, "guestport": 22}},
    });
    check(config.clone(), &[]);
    let config: QemuConfig = serde_json::from_value(config).unwrap();
    assert_eq!((config.smp, config.restrict), (4, false));
    for wrong in
        [json!({"smp": "four"}), json!({"smp": 1.5}), json!({"smp": -1}), json!({"smp": ""})]
    {
        assert!(serde_json::from_value::<QemuConfig>(wrong.clone()).is_err(), "{wrong}");
    }
}

#[test]
fn unknown_keys_and_values_are_refused() {
    for wrong in [
        json!({"memm": "1G"}),
        json!({"arch": "riscv64"}),
        json!({"accel": "xen"}),
        json!({"timeouts": {"begin": 1}}),
        json!({"default_partitions": {"boot": "/x"}}),
    ] {
        assert!(serde_json::from_value::<QemuConfig>(wrong.clone()).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_wrong_beyond_the_types() {
    check(json!({"smp": 0, "mem": "512K", "disk_size": 0}), &["smp", "mem", "disk_size"]);
    check(json!({"disk_size": "16T"}), &[]);
    check(json!({"disk_size": "100T"}), &["disk_size"]);
    check(json!({"mem": 512, "hostname": "my_board-1.lab"}), &[]);
    check(
        json!({"hostname": "a b", "username": "a:b", "cpu": " "}),
        &["hostname", "username", "cpu"],
    );
    check(json!({"hostname": "", "username": ""}), &["hostname", "username"]);
    check(
        json!({"default_partitions": {"OVMF_VARS.fd": "/v"}}),
        &["default_partitions.OVMF_VARS.fd"],
    );
    check(json!({"extra_args": ["a\u{0}b"]}), &["extra_args"]);
    let refused =
        json!({"extra_args": ["-daemonize", "--no-shutdown", "reboot=reset,shutdown=pause", "-S"]});
    check(refused, &["extra_args"; 3]);
    check(json!({"hostfwd": {"ssh": {"guestport": 22}}}), &[]);
    check(json!({"hostfwd": {"vnc": {"guestport": 22}}}), &["hostfwd.vnc"]);
}

#[test]
fn every_key_is_documented() {
    let schema = serde_json::to_value(schemars::schema_for!(QemuConfig)).unwrap();
    let keys = schema["properties"].as_object().unwrap();
    assert_eq!(keys.len(), 24);
    for (key, property) in keys {
        assert!(property["description"].is_string(), "{key}: {property}");
    }
}
