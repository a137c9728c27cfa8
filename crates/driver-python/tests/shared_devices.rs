//! Devices and files that a hosted entry and another one name: `jmp check` refuses them.
#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

use std::path::Path;

use jumpstarter_config::ExporterConfig;
use jumpstarter_driver_flasher as _;
use jumpstarter_driver_network as _;
use jumpstarter_driver_power as _;
use jumpstarter_driver_python as _;

fn faults(entries: &str) -> String {
    let text = format!("export:\n{entries}");
    ExporterConfig::parse(&text, "lab.yaml")
        .err()
        .map(|faults| faults.to_string())
        .unwrap_or_default()
}

/// A file, and a link to it.
fn linked(folder: &Path) -> (String, String) {
    let (file, link) = (folder.join("image"), folder.join("link"));
    std::fs::write(&file, "").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    (std::fs::canonicalize(file).unwrap().display().to_string(), link.display().to_string())
}

#[test]
fn a_device_of_a_native_entry_and_a_hosted_one() {
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = linked(folder.path());
    let entries = format!(
        "  disk: {{type: file-flasher, config: {{path: {file}}}}}
  rack: {{children: {{card: {{type: acme.driver.Card, config: {{slots: [{{path: {link}}}]}}}}}}}}\n"
    );
    assert_eq!(
        faults(&entries),
        format!(
            "lab.yaml:3:76: export.rack.children.card.config.slots[0].path: `disk` (2:45) has \
             `{file}` too, and runs in another process; keep one of them, or make `rack.card` a `ref`"
        )
    );
}

#[test]
fn a_device_of_two_processes_but_not_of_one() {
    let two = "  one: {type: acme.driver.Radio, config: {port: /dev/ttyNONE7}}
  two: {type: acme.driver.Radio, config: {url: 'spy:///dev/ttyNONE7?file=log'}}\n";
    assert_eq!(
        faults(two),
        "lab.yaml:3:48: export.two.config.url: `one` (2:49) has `/dev/ttyNONE7` too, and runs in \
         another process; keep one of them, or make `two` a `ref`"
    );
    // What refers to another one is in its process.
    let one = "  one: {type: acme.driver.Radio, config: {port: /dev/ttyNONE7}, children: {two: {ref: two}}}
  two: {type: acme.driver.Radio, config: {port: /dev/ttyNONE7}}\n";
    assert_eq!(faults(one), "");
    let apart = "  one: {type: acme.driver.Radio, config: {port: /dev/ttyNONE7}}
  two: {type: acme.driver.Radio, config: {port: /dev/ttyNONE8, log: /dev/null, line: /dev/gpiochip0}}
  three: {type: acme.driver.Radio, config: {line: /dev/gpiochip0, log: /dev/null}}\n";
    assert_eq!(faults(apart), "");
    // An alias has a second entry use the same device.
    let alias =
        "  one: &one {type: acme.driver.Radio, config: {port: /dev/ttyNONE7}}\n  two: *one\n";
    assert!(
        faults(alias).contains("export.two.config.port: `one` (2:54) has"),
        "{}",
        faults(alias)
    );
}
