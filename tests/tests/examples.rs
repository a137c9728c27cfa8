//! The exporter files in `examples/` are right.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use jumpstarter_config::ExporterConfig;
use jumpstarter_driver_flasher as _;
use jumpstarter_driver_network as _;
use jumpstarter_driver_power as _;
use jumpstarter_driver_qemu as _;
use jumpstarter_driver_serial as _;

#[test]
fn every_exporter_file_is_right() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let paths = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|kind| kind == "yaml")).collect();
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        if let Err(faults) = ExporterConfig::load(&file) {
            panic!("{faults}");
        }
    }
}

/// The exporter file in the Secret of the Kubernetes example.
#[test]
fn the_exporter_file_in_the_pod_is_right() {
    let manifest = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples/kubernetes/virtual-machine.yaml");
    let text = std::fs::read_to_string(manifest).unwrap();
    let (_, rest) = text.split_once("  config.yaml: |\n").unwrap();
    let (file, _) = rest.split_once("---\n").unwrap();
    let file: String =
        file.lines().map(|line| format!("{}\n", line.strip_prefix("    ").unwrap())).collect();
    accepted(&file);
}

/// As the controller of an ExporterSet writes it: every key of its enricher, in its order.
#[test]
fn the_file_of_an_exporter_set_is_right() {
    for (arch, exits, code) in [
        ("x86_64", true, "/usr/share/edk2/ovmf/OVMF"),
        ("aarch64", false, "/usr/share/AAVMF/AAVMF"),
    ] {
        accepted(&format!(
            r#"
apiVersion: jumpstarter.dev/v1alpha1
endpoint: grpc.jumpstarter.example:443
exitOnLeaseEnd: {exits}
export:
  qemu:
    config:
      arch: {arch}
      default_partitions:
        OVMF_CODE.fd: {code}_CODE.fd
        OVMF_VARS.fd: {code}_VARS.fd
      disk_size: 10G
      hostfwd:
        ssh:
          guestport: 22
          hostaddr: 127.0.0.1
          hostport: 2222
      launcher_socket: /shared/launcher.sock
      mem: 2G
      smp: "2"
    type: jumpstarter_driver_qemu.driver.Qemu
  ssh:
    ref: qemu.ssh
  tcp:
    config:
      host: 127.0.0.1
      port: 2222
    type: jumpstarter_driver_network.driver.TcpNetwork
kind: ExporterConfig
metadata:
  name: demo-set-abc12
  namespace: jumpstarter-lab
tls:
  ca: ""
  insecure: false
token: eyJhbGciOiJIUzI1NiJ9.e30.x
"#
        ));
    }
}

/// Expects neither a fault nor a warning.
fn accepted(file: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    std::fs::write(&path, file).unwrap();
    match ExporterConfig::load(&path) {
        Ok(config) => assert_eq!(config.warnings.to_text("config.yaml"), ""),
        Err(faults) => panic!("{faults}"),
    }
}
