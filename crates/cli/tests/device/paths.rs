//! Relative paths of an exporter file: from its folder first, then from the working directory.

use std::path::Path;

use jumpstarter_driver_testkit::guest::{Arch, qemu_available};
use jumpstarter_supervise::run_unchecked;

use crate::lab::{jmp, transcript};
use crate::terminal::{DEADLINE, J, Lab};

const FILE: &str = "
export:
  flasher: {type: file-flasher, config: {path: disk.img, targets: {other: ./other.img}}}
  web: {type: unix, config: {path: web.socket}}
  vm: {type: qemu, config: {default_partitions: {root: disk.img}, binary: bin/qemu}}
";

async fn run(words: &[&str], folder: &Path) -> String {
    transcript(&run_unchecked(jmp(words).current_dir(folder), DEADLINE).await.unwrap())
}

#[tokio::test]
async fn files_are_found_beside_the_exporter_file_and_in_the_working_directory() {
    let lab = Lab::new(&FILE.replace("  vm:", "  # vm:"));
    let elsewhere = tempfile::tempdir().unwrap();
    let (disk, other) = (lab.path("disk.img"), elsewhere.path().join("other.img"));
    for (file, text) in
        [(&disk, "old"), (&other, "old"), (&elsewhere.path().join("disk.img"), "mine")]
    {
        std::fs::write(file, text).unwrap();
    }
    std::fs::write(elsewhere.path().join("new.img"), "new").unwrap();
    let file = lab.file();
    let shell = ["shell", "--exporter-config", &file, "--", J, "flasher"];
    for target in [[].as_slice(), &["--target", "other"]] {
        let said =
            run(&[&shell, ["flash", "new.img"].as_slice(), target].concat(), elsewhere.path())
                .await;
        assert!(!said.contains("exit code"), "{said}");
    }
    assert_eq!(std::fs::read_to_string(&disk).unwrap(), "new");
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "new");
    assert_eq!(std::fs::read_to_string(elsewhere.path().join("disk.img")).unwrap(), "mine");
}

#[tokio::test]
async fn what_is_missing_is_told_with_both_places() {
    let lab = Lab::new(FILE);
    let elsewhere = tempfile::tempdir().unwrap();
    let [here, there] = [lab.folder(), elsewhere.path()].map(|folder| folder.display().to_string());
    let said = run(&["check", &lab.file()], elsewhere.path()).await;
    for name in ["disk.img", "bin/qemu"] {
        let warning =
            format!("there is no `{name}`; looked for `{here}/{name}` and `{there}/{name}`");
        assert!(said.contains(&warning) && said.contains("no faults"), "{said}");
    }
    assert!(!said.contains("exit code"), "{said}");
    if qemu_available(Arch::X86_64) {
        std::fs::write(lab.file(), FILE.replace(", binary: bin/qemu", ", arch: x86_64, mem: 64M"))
            .unwrap();
        let shell = ["shell", "--exporter-config", &lab.file(), J, "vm", "start"];
        let said = run(&shell, elsewhere.path()).await;
        let error = format!(
            "there is no `disk.img`\nhint: looked for `{here}/disk.img` and `{there}/disk.img`"
        );
        assert!(said.contains(&error), "{said}");
    }
    // What a driver says when it needs one.
    let file = FILE.replace("  vm:", "  # vm:");
    std::fs::write(lab.file(), file).unwrap();
    let shell = ["shell", "--exporter-config", &lab.file(), "--", J, "stream", "web"];
    let said = run(&shell, elsewhere.path()).await;
    let places = format!("looked for `{here}/web.socket` and `{there}/web.socket`");
    assert!(said.contains(&places), "{said}");
}

#[tokio::test]
async fn an_image_that_is_compressed_is_a_fault() {
    let lab = Lab::new(FILE);
    std::fs::write(lab.path("disk.img"), b"\x1f\x8b\x08\0\0\0\0\0\0\x03 and so on").unwrap();
    let said = run(&["check", &lab.file()], lab.folder()).await;
    let fault = "export.vm.config.default_partitions.root: ";
    assert!(said.contains(fault) && said.contains("is compressed with gzip"), "{said}");
    assert!(said.contains("decompress it") && said.contains("exit code 1"), "{said}");
}
