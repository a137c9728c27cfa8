//! The exporter files in `examples/` are right.

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
