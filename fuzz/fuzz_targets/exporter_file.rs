//! Exporter files of any text: problems are reported with their places, and nothing panics.
#![no_main]

use jumpstarter_config::ExporterConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(faults) = ExporterConfig::parse(text, "exporter.yaml") {
        assert!(!faults.to_string().is_empty());
    }
});
